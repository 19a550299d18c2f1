"""CUDA behind one small protocol: memory, copies, streams, events and graphs.

protocol       what there is, whatever offers it
cuda_python    NVIDIA's own bindings (`cuda.bindings.driver`); captures graphs
pycuda         the library that many robots have; no graphs
driver         what the two have in common; resources: how it is freed, and under which context
opening        chooses one of them
status         from CUDA's error codes to PixelRT's errors
interop        arrays of other libraries that are on the GPU already; dlpack: one way they tell where
device_array   results that stay on the GPU
"""

from __future__ import annotations
