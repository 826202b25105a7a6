#!/bin/bash
# sbatch docs/ci/slurm.sh, from the project's folder. Two GPUs of one node, for this job alone; more options at its end.
# One engine, random weights. For both engines leave --engine out and set PERFGATE_SGLANG_PYTHON too; for real weights
# leave --weights out and set PERFGATE_MODEL_MIXTRAL_8X7B and PERFGATE_MODEL_LLAMA_3_1_8B to their folders.
# First baselines: PERFGATE_GATE=advisory, then perfgate accept.
#SBATCH --job-name=perfgate
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=h200:2
#SBATCH --cpus-per-task=16
#SBATCH --mem=128G
#SBATCH --exclusive
#SBATCH --time=02:00:00
#SBATCH --signal=B:INT@120
#SBATCH --output=perfgate-%j.log
set -euo pipefail
cd "${SLURM_SUBMIT_DIR:-$PWD}"
# The tasks of an array begin at once: one installs. What was cut short, without the program that comes last, is made again.
mkdir -p runs
(
    flock 9
    if [[ ! -x .venv/bin/perfgate ]]; then
        rm -rf .venv
        python3 -m venv .venv
        .venv/bin/python -m pip install -q -r requirements.txt
        .venv/bin/python -m pip install -q --no-deps --no-build-isolation -e .
    fi
) 9>runs/.install.lock
export PERFGATE_GATE="${PERFGATE_GATE:-required}"
export PERFGATE_VLLM_PYTHON="${PERFGATE_VLLM_PYTHON:-/opt/vllm/bin/python3}"
# exec: the interrupt two minutes before the end then reaches pytest, which stops its servers and writes the run's data.
exec .venv/bin/pytest -m h200 --engine vllm --weights dummy --run-dir="runs/slurm-${SLURM_JOB_ID:-local}" "$@"
