"""The measuring harness, shared by `fastact bench` and `bench/`.

Cases (what) -> operands (arrays) -> providers (who) -> check (how exact) and timing (how fast).
Nothing here is imported by `import fastact`.
"""
