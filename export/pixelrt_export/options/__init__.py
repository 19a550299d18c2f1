"""The arguments of `export`, per task: what may be given, and the recipe that it amounts to."""
