"""Sharing GPUs: which of this machine's GPUs a job gets a part of, and what tells the job to keep to it.

    what NVML says (memory, utilisation, MIG instances) ─┐
    what was given away here                            ─┴─► Table ─► a device, and variables for the job

A job asks for a part of a GPU, or for memory of one: ``{"part": 0.5}``, ``{"mem_bytes": N}``, or both. It gets the
smallest MIG instance that is large enough, to itself; else room on a GPU that others share already, as tightly as it
goes; else the GPU that does least; else one on another machine, where the site declares a remote-GPU middleware.

Only MIG separates jobs by itself. Elsewhere limits are the MPS daemon's, where one runs, or the job's own affair:
https://docs.nvidia.com/deploy/mps/  https://docs.nvidia.com/datacenter/tesla/mig-user-guide/  http://www.rcuda.net
"""

MIB = 1 << 20
ROUNDING = 1e-6
GPU, MIG, REMOTE = "gpu", "mig", "remote"


class Device(object):
    """A row of the table: something that jobs can have parts of."""

    def __init__(self, name: str, kind: str, mem: int, used: int = 0, util: int = 0) -> None:
        self.name = name  # as CUDA_VISIBLE_DEVICES names it; SERVER:GPU where it is remote
        self.kind = kind
        self.mem = mem  # bytes; 0: not known
        self.used = used  # bytes, as NVML sees it
        self.util = util  # percent
        self.held: dict = {}  # key -> (part, bytes)

    def size(self, want: dict) -> tuple:
        """``(part, bytes)`` of this device that the wish comes to; a part of more than 1 never fits."""
        part, mem = float(want.get("part") or 0.0), int(want.get("mem_bytes") or 0)
        if mem and not self.mem:
            return 2.0, mem
        if not part:
            part = mem / self.mem
        return max(part, mem / self.mem if self.mem else 0.0), mem or int(part * self.mem)

    def free(self) -> tuple:
        """``(part, bytes)``. Memory that others use counts, and what was given away though it is not used yet."""
        parts = sum(part for part, _ in self.held.values())
        given = sum(mem for _, mem in self.held.values())
        return 1.0 - parts, self.mem - max(given, self.used)

    def fits(self, want: dict) -> bool:
        """Whether there is room for it now."""
        part, mem = self.size(want)
        free_part, free_mem = self.free()
        if self.kind == MIG and self.held:
            return False  # an instance is one job's
        return part <= free_part + ROUNDING and (not self.mem or mem <= free_mem)


class Table(object):
    """The devices of this machine, and remote ones that jobs name."""

    def __init__(self) -> None:
        self.devices: dict = {}  # name -> Device

    def update(self, names: list, survey: list) -> None:
        """Take in what NVML says. ``names``: the GPUs that may be used; ``survey``: as `isthmus.runner.gpu.survey`."""
        seen = set()
        for said in survey:
            mine = [name for name in names if name in (str(said["index"]), said["uuid"])]
            parts = said.get("migs") or []
            for name, kind, row in [(name, GPU, said) for name in mine if not parts] + [
                (row["uuid"], MIG, row) for row in parts if mine or row["uuid"] in names
            ]:
                seen.add(name)
                device = self.devices.setdefault(name, Device(name, kind, row["mem"]))
                device.used, device.util, device.mem = row["mem_bytes"], said["util"], row["mem"]
        for name in names:  # one that the library does not tell of can be shared by parts, its memory is not known
            if name not in seen and not any(name in (str(said["index"]), said["uuid"]) for said in survey):
                self.devices.setdefault(name, Device(name, GPU, 0))

    def declare(self, remote: list) -> None:
        """Remote GPUs: ``[{"server", "mem_bytes"}]``, as the site declares them."""
        for said in remote:
            self.devices.setdefault(said["server"], Device(said["server"], REMOTE, int(said.get("mem_bytes") or 0)))

    def divided(self) -> bool:
        """Whether any GPU is divided into MIG instances."""
        return any(device.kind == MIG for device in self.devices.values())

    def whole(self, names: list) -> list:
        """Of these GPUs, those that may be given away whole: not shared, not divided into MIG instances."""
        return [name for name in names if name in self.devices and self.devices[name].kind == GPU] if names else []

    def refuses(self, want: dict) -> str:
        """Why a wish can never be met here; "" if it can."""
        if any(device.size(want)[0] <= 1.0 + ROUNDING for device in self.devices.values()):
            return ""
        if not self.devices:
            return "It asks for a part of a GPU; this machine has none."
        most = max(device.mem for device in self.devices.values())
        return "It asks for %d MiB of a GPU's memory; the largest here has %d MiB." % (
            int(want.get("mem_bytes") or 0) // MIB,
            most // MIB,
        )

    def take(self, key: str, want: dict, busy: set):
        """Give a part to an attempt: the device, or None while there is no room. ``busy``: GPUs given away whole."""
        fitting = [device for device in self.devices.values() if device.name not in busy and device.fits(want)]
        if not fitting:
            return None
        best = min(fitting, key=_preference)
        best.held[key] = best.size(want)
        return best

    def keep(self, key: str, want: dict, name: str) -> None:
        """Note what an attempt has that an earlier keeper started."""
        device = self.devices.setdefault(name, Device(name, REMOTE if ":" in name else GPU, 0))
        device.held[key] = device.size(want) if device.mem or not want.get("mem_bytes") else (0.0, want["mem_bytes"])

    def give_back(self, key: str) -> None:
        for device in self.devices.values():
            device.held.pop(key, None)

    def shared(self) -> set:
        """The names of devices of which parts are given away."""
        return {device.name for device in self.devices.values() if device.held}


def _preference(device):
    """The smallest instance; what is shared already, the fullest first; the GPU that does least; a remote one last."""
    order = {MIG: 0, GPU: 1, REMOTE: 2}[device.kind]
    if device.kind == MIG:
        return order, 0, device.mem, 0, device.name
    free_part, free_mem = device.free()
    if device.held:
        return order, 0, free_mem, free_part, device.name
    return order, 1, device.util, -free_mem, device.name


def variables(device: Device, key: str) -> dict:
    """What the job's environment must say. Device 0 in it is the job's own view."""
    part, mem = device.held[key]
    said = {"ISTHMUS_GPU_PART": "%.4g" % min(1.0, part)}
    if mem:
        said["ISTHMUS_GPU_MEMORY"] = str(mem)
    if device.kind == REMOTE:
        said.update(RCUDA_DEVICE_COUNT="1", RCUDA_DEVICE_0=device.name)
        return said
    said["CUDA_VISIBLE_DEVICES"] = device.name
    if device.kind == GPU:
        said["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = "%d" % max(1, round(100 * min(1.0, part)))
        if mem:
            said["CUDA_MPS_PINNED_DEVICE_MEM_LIMIT"] = "0=%dM" % (mem // MIB)
    return said
