"""Benchmarks that anyone can run: `python -m bench` (or `make bench`) is the whole, the other files are parts of it
or look at one thing closely. None of them is a test, and no test depends on a clock."""
