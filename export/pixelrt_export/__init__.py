"""Converts trained PyTorch networks into bundles for `pixelrt`. torch and onnx live here and only here."""
