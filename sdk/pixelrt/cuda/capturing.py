"""What captures of CUDA graphs and waits for the whole GPU have in common: only one of them at a time."""

from __future__ import annotations

import threading

CAPTURING = threading.RLock()
"""Held from `Stream.begin_capture` to `Stream.end_capture`, by whoever calls them, and by
`Driver.synchronize` and `Driver.mark_all_work`.

CUDA refuses to wait for a context while one of its streams is captured, by whatever thread, and that capture
is lost: `cuCtxSynchronize` and `cuCtxRecordEvent` give 900, `cuStreamEndCapture` 901. What other threads
allocate, copy and wait for in streams and events is no matter, since captures are thread-local. The thread
that holds this can take it again: CUDA's refusal is then better than a process that stands still.
"""
