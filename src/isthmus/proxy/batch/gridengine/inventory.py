"""What a Grid Engine site has, as an Inventory: queues, hosts, GPUs, projects; by a short job, what nodes have."""

from collections import OrderedDict

from isthmus.proxy import command
from isthmus.proxy.batch import gridengine, node
from isthmus.proxy.batch.gridengine import parse
from isthmus.proxy.errors import ProxyError

GIB = 1024.0**3
# Letters of a queue on a host that takes no jobs: alarm-unreachable, disabled, error, orphaned.
AWAY = set("udDEo")


def inventory(options):
    """The fields of Inventory that Grid Engine knows. Only what qhost does not answer raises; the rest is a note."""
    gpu = str(options.get("gpu") or "gpu")
    hosts = gridengine.read(lambda text: parse.qhost(text, gpu), ["qhost", "-q", "-F", "-xml"])
    limits, notes = _limits()
    queues = queues_of(hosts, limits, str(options.get("queue") or ""))
    result = {"batch": _version(), "queues": queues, "others": gridengine.query([], options).others}
    result["accounting"] = "qacct"
    if gridengine._accounting(["-j", "1"]) is None:
        result["accounting"] = "none"
        notes.append("There is no accounting that you may read: how a job ended is known from its runner alone.")
    environments = command.call(["qconf", "-spl"]).stdout.split()
    wanted = str(options.get("pe") or "smp")
    if wanted not in environments:
        notes.append(
            "Jobs of several cores need a parallel environment on one host, and there is no %r: set the option `pe`, "
            "there is: %s." % (wanted, ", ".join(environments) or "none")
        )
    facts, said = _node_facts(options)
    result.update(facts)
    result["notes"] = notes + said
    return result


def queues_of(hosts, limits, wanted=""):
    """The queues of these Hosts. ``limits``: queue -> its settings; ``wanted``: the one that the site's options say."""
    names: dict = OrderedDict()
    kinds: dict = OrderedDict()
    for host in hosts:
        for name, (slots, state) in host.queues.items():
            one = names.setdefault(name, {"up": False})
            one["up"] = one["up"] or not AWAY & set(state)
            # A job gets slots: a host with more cores than these does not give them.
            kind = (name, slots, host.mem, host.gpus)
            kinds[kind] = kinds.get(kind, 0) + 1
    queues = []
    for name, facts in names.items():
        nodes = []
        for (where, slots, mem, gpus), count in kinds.items():
            if where == name and slots:
                label = "%dc-%dg%s" % (slots, round(mem / GIB), "-%dxgpu" % gpus if gpus else "")
                nodes.append(
                    {
                        "name": label,
                        "count": count,
                        "cpus": slots,
                        "mem": mem,
                        "gpus": [{"type": "", "count": gpus, "mem": 0}] if gpus else [],
                        "features": [],
                    }
                )
        told = limits.get(name, {})
        queues.append(
            {
                "name": name,
                "default": name == wanted,
                "up": facts["up"],
                "max_time": parse.seconds(told.get("h_rt", "")),
                "max_nodes": 1,
                "nodes": nodes,
            }
        )
    if not wanted and queues:
        # Without a queue asked for Grid Engine looks through all; the least limited comes nearest to that.
        open_ended = [queue for queue in queues if queue["up"] and not queue["max_time"]]
        (open_ended or queues)[0]["default"] = True
    return [queue for queue in queues if not wanted or queue["name"] == wanted]


def _limits():
    limits: dict = {}
    try:
        for name in command.call(["qconf", "-sql"]).stdout.split():
            limits[name] = parse.settings(command.call(["qconf", "-sq", name]).stdout)
    except ProxyError as error:
        return limits, ["The queues' limits are not known: %s" % error.message]
    return limits, []


def _version():
    said = command.call(["qstat", "-help"]).stdout.split("\n")[0].strip()
    return "Grid Engine " + said.split()[-1] if said else "Grid Engine"


def _node_facts(options):
    """What a short job says of a node: ``(facts, notes)``."""

    def submit(text, path, folder):
        argv = ["qsub", "-terse", "-N", "isthmus-probe", "-S", "/bin/bash", "-j", "y", "-o", path, "-r", "n"]
        for option, flag in (("queue", "-q"), ("project", "-P"), ("account", "-A")):
            if options.get(option):
                argv += [flag, str(options[option])]
        result = command.call(argv, stdin=text, cwd=folder)
        return parse.native_id(result.stdout) if result.code == 0 else None, command.said(result)

    return node.look(options, submit, lambda native_id: gridengine.kill([native_id], {"force": True}))
