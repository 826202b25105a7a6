"""Logs of real engines, shortened: vLLM and SGLang on a CPU and on a GPU."""

# As 0.32.0 logged on the CPU, shortened at the ends of lines.
VLLM_CPU_LOG = """\
(APIServer pid=8158) INFO 11-24 06:33:24 [api_utils.py:347]  ▄▄ ▄█ █     █     █ ▀▄▀ █  version \
0.32.0
(APIServer pid=8158) WARNING 11-24 06:33:24 [vllm.py:1703] Enforce eager set, disabling \
torch.compile, CUDAGraphs, and
(APIServer pid=8158) WARNING 11-24 06:33:24 [cpu.py:317] Reset SSM cache type to float32 for \
accelerated GDN mamba backend 'none'.
(EngineCore pid=8186) INFO 11-24 06:33:29 [core.py:133] Initializing a V1 LLM engine (v0.32.0) \
with config: model=
(EngineCore pid=8186) INFO 11-24 06:33:30 [ompmultiprocessing.py:185] OpenMP thread binding info:
(EngineCore pid=8186) INFO 11-24 06:33:30 [ompmultiprocessing.py:185] \
	VLLM_CPU_OMP_THREADS_BIND='0|1'
(Worker_TP0 pid=8195) INFO 11-24 06:33:35 [cpu_model_runner.py:68] Starting to load model \
mixtral-small...
(Worker_TP0 pid=8195) INFO 11-24 06:33:35 [unquantized.py:364] Using CPU Unquantized MoE \
backend out of potential backends: ['CPU'].
(Worker_TP0 pid=8195) INFO 11-24 06:33:35 [weight_utils.py:1108] Checkpoint size: 1.38 GiB. \
Available RAM: 16.12 GiB.
Loading safetensors checkpoint shards:   0% Completed | 0/5 [00:00<?, ?it/s]
(Worker_TP0 pid=8195) INFO 11-24 06:33:38 [default_loader.py:501] Loading weights took 2.45 seconds
(Worker_TP0 pid=8195) INFO 11-24 06:33:38 [unquantized.py:529] Using CPUUnquantizedExperts MoE \
backend
(EngineCore pid=8186) INFO 11-24 06:33:39 [utils.py:347] Using LBHNC KV cache layout.
(Worker_TP0 pid=8195) INFO 11-24 06:33:39 [cpu_worker.py:260] Explicitly set (1.0/18.46) GiB \
for KV cache on node 0.
(EngineCore pid=8186) INFO 11-24 06:33:39 [kv_cache_utils.py:2327] CPU KV cache size: 262,144 \
tokens, Maximum concurrency for 1,024 tokens per request: 256.00x
(EngineCore pid=8186) INFO 11-24 06:33:42 [core.py:402] init engine (profile, create kv cache, \
warmup model) took 2.68 s
(APIServer pid=8158) INFO 11-24 06:33:42 [entry.py:140] Starting vLLM server on \
http://127.0.0.1:8171
INFO:     Application startup complete.
"""
# Memory as 0.26 logged it for Mixtral-8x7B on one H200, in lines as its source
# formats them, with a second rank added.
VLLM_GPU_LOG = """\
(Worker_TP0 pid=12) INFO Using FLASH_ATTN attention backend out of potential backends: \
['FLASH_ATTN'].
(Worker_TP0 pid=12) INFO Using TRITON Unquantized MoE backend out of potential backends: \
['TRITON'].
(Worker_TP0 pid=12) INFO Model loading took 87.0 GiB memory and 31.210000 seconds
(Worker_TP1 pid=13) INFO Model loading took 86.9 GiB memory and 31.340000 seconds
(Worker_TP0 pid=12) INFO Available KV cache memory: 38.97 GiB
(EngineCore pid=11) INFO GPU KV cache size: 319,264 tokens, Maximum concurrency for 4,096 \
tokens per request: 77.95x
(Worker_TP0 pid=12) INFO Graph capturing finished in 12 secs, took 0.65 GiB
"""
# As 0.5.23 logged on the CPU, shortened within its second line.
SGLANG_CPU_LOG = """\
[2026-11-24 11:04:01] Cuda graph is disabled because of using torch native attention backend
[2026-11-24 11:04:01] server_args={'model_path': '/models/mixtral-small', \
'disable_radix_cache': True, 'attention_backend': 'torch_native', 'decode_attention_backend': \
None, 'disable_cuda_graph': False, 'moe_runner_backend': 'auto', \
'speculative_moe_runner_backend': 'auto'}
[2026-11-24 11:04:16 TP1] Init parallel begin.
[2026-11-24 11:04:17 TP0] Load weight begin. avail mem=21.00 GB
[2026-11-24 11:04:23 TP0] Load weight end. elapsed=5.26 s, type=MixtralForCausalLM, avail \
mem=19.58 GB, mem usage=1.43 GB.
[2026-11-24 11:04:23 TP1] KV Cache is allocated. dtype: torch.float32, #tokens: 16384, K size: \
0.03 GB, V size: 0.03 GB
[2026-11-24 11:04:23 TP0] Memory pool end. avail mem=19.40 GB
[2026-11-24 11:04:23] max_total_num_tokens=16384, chunked_prefill_size=4096, \
max_prefill_tokens=16384, max_running_requests=4096, context_len=1024, available_cpu_mem=19.40 GB
[2026-11-24 11:04:23] INFO:     Started server process [12450]
[2026-11-24 11:04:23] INFO:     Application startup complete.
[2026-11-24 11:04:28] The server is fired up and ready to roll!
"""
# Lines as 0.5.16's source formats them.
SGLANG_GPU_LOG = """\
[2026-06-01 10:00:00] Attention backend not specified. Use fa3 backend by default.
[2026-06-01 10:00:00] server_args=ServerArgs(model_path='m', disable_radix_cache=True, \
attention_backend='fa3', moe_runner_backend='auto', disable_cuda_graph=False)
[2026-06-01 10:00:40 TP0] Load weight end. elapsed=31.2 s, type=MixtralForCausalLM, avail \
mem=52.1 GB, mem usage=87.00 GB.
[2026-06-01 10:00:41 TP0] KV Cache is allocated. dtype: torch.bfloat16, #tokens: 319264, K \
size: 19.50 GB, V size: 19.50 GB
[2026-06-01 10:00:50 TP0] Capture target decode CUDA graph end. elapsed=9.10 s, mem usage=0.65 \
GB, avail mem=12.1 GB.
[2026-06-01 10:00:50] max_total_num_tokens=319264, chunked_prefill_size=8192, \
max_prefill_tokens=16384, max_running_requests=2048, context_len=4096, available_gpu_mem=12.1 GB
"""
