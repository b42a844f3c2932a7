"""Models on this machine: GGUF weights, run by llama.cpp in a process of the worker's own."""
