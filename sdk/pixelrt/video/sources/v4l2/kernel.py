"""The part of Linux' `videodev2.h` that capture needs: structures, numbers, and the call.

Fields have the names of the header (https://docs.kernel.org/userspace-api/media/v4l/v4l2.html). The number of
a request holds the size of its structure, so the kernel refuses one that is laid out otherwise.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl

CAPTURE = 1
"""V4L2_BUF_TYPE_VIDEO_CAPTURE: one picture in one piece."""
MMAP = 1
"""V4L2_MEMORY_MMAP."""
ANY_FIELD, NO_FIELD = 0, 1
DISCRETE = 1
"""V4L2_FRMSIZE_TYPE_DISCRETE and V4L2_FRMIVAL_TYPE_DISCRETE."""

CAP_VIDEO_CAPTURE = 0x1
CAP_VIDEO_CAPTURE_MPLANE = 0x1000
CAP_TIMEPERFRAME = 0x1000
CAP_STREAMING = 0x04000000
CAP_DEVICE_CAPS = 0x80000000

BUFFER_ERROR = 0x40
"""The driver says that the picture is damaged."""
TIMESTAMP_MASK, TIMESTAMP_MONOTONIC = 0xE000, 0x2000

u32 = ctypes.c_uint32


class Capability(ctypes.Structure):
    """`v4l2_capability`."""

    _fields_ = (
        ("driver", ctypes.c_char * 16),
        ("card", ctypes.c_char * 32),
        ("bus_info", ctypes.c_char * 32),
        ("version", u32),
        ("capabilities", u32),
        ("device_caps", u32),
        ("reserved", u32 * 3),
    )


class FormatDescription(ctypes.Structure):
    """`v4l2_fmtdesc`."""

    _fields_ = (
        ("index", u32),
        ("type", u32),
        ("flags", u32),
        ("description", ctypes.c_char * 32),
        ("pixelformat", u32),
        ("mbus_code", u32),
        ("reserved", u32 * 3),
    )


class PixelLayout(ctypes.Structure):
    """`v4l2_pix_format`."""

    _fields_ = (
        ("width", u32),
        ("height", u32),
        ("pixelformat", u32),
        ("field", u32),
        ("bytesperline", u32),
        ("sizeimage", u32),
        ("colorspace", u32),
        ("priv", u32),
        ("flags", u32),
        ("ycbcr_enc", u32),
        ("quantization", u32),
        ("xfer_func", u32),
    )


class _AnyFormat(ctypes.Union):
    # a structure of the union that is not needed here has pointers, and so aligns it
    _fields_ = (("pix", PixelLayout), ("raw", ctypes.c_uint8 * 200), ("align", ctypes.c_void_p))


class Format(ctypes.Structure):
    """`v4l2_format`."""

    _fields_ = (("type", u32), ("fmt", _AnyFormat))


class Fraction(ctypes.Structure):
    """`v4l2_fract`."""

    _fields_ = (("numerator", u32), ("denominator", u32))


class CaptureParameters(ctypes.Structure):
    """`v4l2_captureparm`."""

    _fields_ = (
        ("capability", u32),
        ("capturemode", u32),
        ("timeperframe", Fraction),
        ("extendedmode", u32),
        ("readbuffers", u32),
        ("reserved", u32 * 4),
    )


class _AnyParameters(ctypes.Union):
    _fields_ = (("capture", CaptureParameters), ("raw", ctypes.c_uint8 * 200))


class StreamParameters(ctypes.Structure):
    """`v4l2_streamparm`."""

    _fields_ = (("type", u32), ("parm", _AnyParameters))


class _Discrete(ctypes.Structure):
    _fields_ = (("width", u32), ("height", u32))


class _Stepwise(ctypes.Structure):
    _fields_ = (
        ("min_width", u32),
        ("max_width", u32),
        ("step_width", u32),
        ("min_height", u32),
        ("max_height", u32),
        ("step_height", u32),
    )


class _AnySize(ctypes.Union):
    _fields_ = (("discrete", _Discrete), ("stepwise", _Stepwise))


class FrameSize(ctypes.Structure):
    """`v4l2_frmsizeenum`."""

    _fields_ = (
        ("index", u32),
        ("pixel_format", u32),
        ("type", u32),
        ("size", _AnySize),
        ("reserved", u32 * 2),
    )


class _Intervals(ctypes.Structure):
    _fields_ = (("min", Fraction), ("max", Fraction), ("step", Fraction))


class _AnyInterval(ctypes.Union):
    _fields_ = (("discrete", Fraction), ("stepwise", _Intervals))


class FrameInterval(ctypes.Structure):
    """`v4l2_frmivalenum`."""

    _fields_ = (
        ("index", u32),
        ("pixel_format", u32),
        ("width", u32),
        ("height", u32),
        ("type", u32),
        ("interval", _AnyInterval),
        ("reserved", u32 * 2),
    )


class RequestBuffers(ctypes.Structure):
    """`v4l2_requestbuffers`."""

    _fields_ = (
        ("count", u32),
        ("type", u32),
        ("memory", u32),
        ("capabilities", u32),
        ("flags", ctypes.c_uint8),
        ("reserved", ctypes.c_uint8 * 3),
    )


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("microseconds", ctypes.c_long))


class _Timecode(ctypes.Structure):
    _fields_ = (("type", u32), ("flags", u32), ("digits", ctypes.c_uint8 * 4), ("user", ctypes.c_uint8 * 4))


class _Place(ctypes.Union):
    _fields_ = (("offset", u32), ("userptr", ctypes.c_ulong), ("fd", ctypes.c_int32))


class Buffer(ctypes.Structure):
    """`v4l2_buffer`."""

    _fields_ = (
        ("index", u32),
        ("type", u32),
        ("bytesused", u32),
        ("flags", u32),
        ("field", u32),
        ("timestamp", _Time),
        ("timecode", _Timecode),
        ("sequence", u32),
        ("memory", u32),
        ("m", _Place),
        ("length", u32),
        ("reserved2", u32),
        ("request_fd", ctypes.c_int32),
    )


_WRITE, _READ = 1, 2


def _number(direction: int, number: int, structure: type[ctypes._CData]) -> int:
    return direction << 30 | ctypes.sizeof(structure) << 16 | ord("V") << 8 | number


QUERYCAP = _number(_READ, 0, Capability)
ENUM_FMT = _number(_READ | _WRITE, 2, FormatDescription)
G_FMT = _number(_READ | _WRITE, 4, Format)
S_FMT = _number(_READ | _WRITE, 5, Format)
REQBUFS = _number(_READ | _WRITE, 8, RequestBuffers)
QUERYBUF = _number(_READ | _WRITE, 9, Buffer)
QBUF = _number(_READ | _WRITE, 15, Buffer)
DQBUF = _number(_READ | _WRITE, 17, Buffer)
STREAMON = _number(_WRITE, 18, ctypes.c_int)
G_PARM = _number(_READ | _WRITE, 21, StreamParameters)
S_PARM = _number(_READ | _WRITE, 22, StreamParameters)
ENUM_FRAMESIZES = _number(_READ | _WRITE, 74, FrameSize)
ENUM_FRAMEINTERVALS = _number(_READ | _WRITE, 75, FrameInterval)


def request(fd: int, number: int, structure: ctypes.Structure | ctypes.c_int) -> None:
    """Ask the driver; it fills the structure.

    Raises:
        OSError: If it refuses.
    """
    fcntl.ioctl(fd, number, structure)


def answers(fd: int, number: int, structure: ctypes.Structure) -> bool:
    """Ask the driver for something that it may not have.

    Returns:
        Whether it has.

    Raises:
        OSError: If it refuses for any other reason.
    """
    try:
        request(fd, number, structure)
    except OSError as problem:
        if problem.errno in (errno.EINVAL, errno.ENOTTY, errno.ENODATA):
            return False
        raise
    return True


def code_of(name: str) -> int:
    """The number of a pixel format of four letters, such as `YUYV`."""
    return int.from_bytes(name.encode("ascii"), "little")


def name_of(code: int) -> str:
    """The four letters of a pixel format."""
    return (code & 0x7FFFFFFF).to_bytes(4, "little").decode("ascii", "replace").strip()
