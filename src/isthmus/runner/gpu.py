"""GPUs, through NVIDIA's management library where it is installed; nothing of it is needed where it is not.

https://docs.nvidia.com/deploy/nvml-api/
"""

_SUCCESS = 0
_UUID_BYTES = 96


class Gpus(object):
    """The GPUs of this machine that the library tells of."""

    def __init__(self):
        self._library = _load()

    def __bool__(self):
        return self._library is not None

    def count(self) -> int:
        """How many GPUs this machine has."""
        if self._library is None:
            return 0
        import ctypes

        number = ctypes.c_uint(0)
        if self._library.nvmlDeviceGetCount_v2(ctypes.byref(number)) != _SUCCESS:
            return 0
        return number.value

    def describe(self) -> list:
        """``[{"name", "mem", "uuid"}]``, in the order of their index."""
        return [
            {
                "name": self._text(handle, "nvmlDeviceGetName"),
                "mem": self._memory(handle)[0],
                "uuid": self._uuid(handle),
            }
            for handle in self._handles()
        ]

    def usage(self, wanted: list) -> list:
        """``[{"index", "util" (percent), "mem_bytes"}]`` of GPUs whose index or UUID is in ``wanted``; [] is all."""
        found = []
        for index, handle in enumerate(self._handles()):
            if not wanted or str(index) in wanted or self._uuid(handle) in wanted:
                found.append({"index": index, "util": self._utilisation(handle), "mem_bytes": self._memory(handle)[1]})
        return found

    def survey(self) -> list:
        """``[{"index", "uuid", "mem", "mem_bytes" (used), "util", "migs": [{"uuid", "mem", "mem_bytes"}]}]``."""
        found = []
        for index, handle in enumerate(self._handles()):
            mem, used = self._memory(handle)
            said = {"index": index, "uuid": self._uuid(handle), "mem": mem, "mem_bytes": used}
            said.update(util=self._utilisation(handle), migs=[])
            for part in self._instances(handle):
                mem, used = self._memory(part)
                said["migs"].append({"uuid": self._uuid(part), "mem": mem, "mem_bytes": used})
            found.append(said)
        return found

    def _instances(self, handle):
        """The MIG instances of a GPU; [] where it is not divided, or the library is too old to know of them."""
        import ctypes

        current, pending, most = ctypes.c_uint(0), ctypes.c_uint(0), ctypes.c_uint(0)
        try:
            mode = self._library.nvmlDeviceGetMigMode(handle, ctypes.byref(current), ctypes.byref(pending))
            if mode != _SUCCESS or not current.value:
                return []
            self._library.nvmlDeviceGetMaxMigDeviceCount(handle, ctypes.byref(most))
            found = []
            for index in range(most.value):
                part = ctypes.c_void_p()
                got = self._library.nvmlDeviceGetMigDeviceHandleByIndex(
                    handle, ctypes.c_uint(index), ctypes.byref(part)
                )
                if got == _SUCCESS:
                    found.append(part)
            return found
        except AttributeError:
            return []

    def _handles(self):
        import ctypes

        handles = []
        for index in range(self.count()):
            handle = ctypes.c_void_p()
            if self._library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == _SUCCESS:
                handles.append(handle)
        return handles

    def _text(self, handle, function):
        import ctypes

        text = ctypes.create_string_buffer(_UUID_BYTES)
        if getattr(self._library, function)(handle, text, _UUID_BYTES) != _SUCCESS:
            return ""
        return text.value.decode("utf-8", "replace")

    def _uuid(self, handle):
        return self._text(handle, "nvmlDeviceGetUUID")

    def _memory(self, handle):
        """``(total, used)`` in bytes."""
        import ctypes

        figures = (ctypes.c_ulonglong * 3)()  # nvmlMemory_t: total, free, used
        if self._library.nvmlDeviceGetMemoryInfo(handle, figures) != _SUCCESS:
            return 0, 0
        return figures[0], figures[2]

    def _utilisation(self, handle):
        import ctypes

        figures = (ctypes.c_uint * 2)()  # nvmlUtilization_t: gpu, memory
        if self._library.nvmlDeviceGetUtilizationRates(handle, figures) != _SUCCESS:
            return 0
        return figures[0]


_shared: list = []


def shared():
    """The library, loaded once in a process."""
    if not _shared:
        _shared.append(Gpus())
    return _shared[0]


def visible(environment) -> list:
    """The indices or UUIDs that CUDA_VISIBLE_DEVICES names; [] when it is not set: all."""
    words = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [word.strip() for word in words if word.strip()]


def _load():
    try:
        import ctypes

        library = ctypes.CDLL("libnvidia-ml.so.1")
        library.nvmlDeviceGetHandleByIndex_v2.argtypes = [ctypes.c_uint, ctypes.c_void_p]
        if library.nvmlInit_v2() != _SUCCESS:
            return None
    except (ImportError, OSError, AttributeError):
        return None
    return library
