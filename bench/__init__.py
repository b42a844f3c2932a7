"""The benchmarks: `python bench/run.py`. Nothing here is imported by the product."""
