"""Benchmarks: each module prints its figures against targets, and exits 1 where one is missed."""
