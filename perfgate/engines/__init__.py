"""Engines: how vLLM and SGLang are launched and read."""
