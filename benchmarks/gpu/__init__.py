"""The parts of `gpu_pipeline.py`: contenders, the rounds in which they take turns, and what is made of it."""
