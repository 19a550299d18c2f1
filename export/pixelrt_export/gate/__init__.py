"""The gate: the original network in FP32 against the deployed graph, as the runtime itself runs it."""
