"""What a SLURM site has, as an Inventory: partitions, nodes, GPUs, accounts, QOS; by a short job, what nodes have."""

import grp
import os
from collections import OrderedDict

from isthmus.proxy import command
from isthmus.proxy.batch import hardware, node, slurm
from isthmus.proxy.batch.slurm import accounting, commands, parse
from isthmus.proxy.errors import ProxyError

MIB = 1024 * 1024
# Options that a probe job needs too, to be accepted where real jobs are.
OF_JOBS = ("account", "qos", "reservation", "constraint")
AWAY = ("down", "drain", "fail", "inval", "error", "power_down", "powered_down")


def inventory(options):
    """The fields of Inventory that SLURM knows. Only what squeue and sinfo don't answer raises; the rest is a note."""
    clusters = commands.clusters(options)
    notes: list = []
    queues: list = []
    others = 0
    accounts, qos, said = _associations(clusters[0])
    notes.extend(said)
    for cluster in clusters:
        found, said = _queues(cluster, options, [str(options["account"])] if options.get("account") else accounts)
        queues.extend(queue for queue in found if queue["name"] not in [known["name"] for known in queues])
        notes.extend(said)
        others += slurm.query([], {"clusters": cluster}).others
    result = {"batch": _version(), "queues": queues, "others": others, "accounts": accounts, "qos": qos}
    result["accounting"] = accounting.kind(clusters[0])
    if result["accounting"] == "none":
        notes.append("SLURM keeps no accounting that you may read: it forgets a job minutes after its end.")
    if queues and not any(queue["default"] for queue in queues) and not options.get("partition"):
        names = ", ".join(queue["name"] for queue in queues)
        notes.append("There is no default partition: the first that fits a job is used, of %s." % names)
    facts, said = _node_facts(options, clusters[0], queues)
    result.update(facts)
    result["notes"] = notes + said
    return result


def _version():
    said = command.call(["sinfo", "--version"]).stdout.split()
    return "SLURM " + said[-1] if said else "SLURM"


def _queues(cluster, options, accounts):
    """The partitions that this user, and these accounts, may use: ``[queue]``, the default first, and notes."""
    partitions = parse_partitions(commands.ask(["scontrol", "--all", "--oneliner", "show", "partition"], cluster))
    sinfo = ["sinfo", "--noheader", "--all", "--exact", "--format=" + parse.SINFO_FORMAT]
    nodes, away = node_types(commands.ask(sinfo, cluster))
    wanted = [name.strip() for name in str(options.get("partition") or "").split(",") if name.strip()]
    groups = _groups()
    queues, notes = [], []
    for name, settings in partitions.items():
        if wanted and name not in wanted:
            continue
        barred = _barred(settings, groups, accounts)
        if barred:
            notes.append("Partition %s is left out: %s." % (name, barred))
            continue
        if away.get(name):
            total = sum(kind["count"] for kind in nodes.get(name, []))
            notes.append("Partition %s: %d of %d nodes are down or drained now." % (name, away[name], total))
        queues.append(
            {
                "name": name,
                "default": name == wanted[0] if wanted else settings.get("Default") == "YES",
                "up": settings.get("State", "UP") == "UP",
                "max_time": parse.seconds(settings.get("MaxTime", "")),
                "max_nodes": _whole(settings.get("MaxNodes")),
                "nodes": [_bounded(kind, settings) for kind in nodes.get(name, [])],
            }
        )
    notes.extend("There is no partition %s." % name for name in wanted if name not in partitions)
    queues.sort(key=lambda queue: (not queue["default"], -sum(kind["count"] for kind in queue["nodes"])))
    return queues, notes


def _barred(settings, groups, accounts):
    """Why none of these groups or accounts may use a partition with these settings; "" if some may."""
    allowed = settings.get("AllowGroups", "ALL").split(",")
    if os.getuid() and settings.get("RootOnly") == "YES":
        return "it is for root"
    if os.getuid() and "ALL" not in allowed and not groups & set(allowed):
        return "it is for the groups " + ", ".join(allowed)
    allowed = settings.get("AllowAccounts", "ALL").split(",")
    if accounts and "ALL" not in allowed and not set(accounts) & set(allowed):
        return "it is for the accounts " + ", ".join(allowed)
    denied = settings.get("DenyAccounts", "").split(",")
    if accounts and set(accounts) <= set(denied):
        return "it is not for the accounts " + ", ".join(denied)
    return ""


def _bounded(kind, settings):
    """A node type as jobs of a partition with these settings get it."""
    cpus, mem = _whole(settings.get("MaxCPUsPerNode")), _whole(settings.get("MaxMemPerNode")) * MIB
    return dict(kind, cpus=min(cpus or kind["cpus"], kind["cpus"]), mem=min(mem or kind["mem"], kind["mem"]))


def parse_partitions(text):
    """``{name: settings}`` of ``scontrol --oneliner show partition``."""
    found = OrderedDict()
    for line in text.split("\n"):
        settings = parse.pairs(line)
        if "PartitionName" in settings:
            found[settings["PartitionName"]] = settings
    return found


def node_types(text):
    """``({partition: [node type]}, {partition: nodes away})`` of sinfo's lines in SINFO_FORMAT.

    Nodes of one type are alike and in the same partitions, so that a type that two partitions share can be counted
    once; its name says what it has.
    """
    configurations: dict = OrderedDict()
    partitions: dict = {}
    away: dict = {}
    for line in text.split("\n"):
        parts = line.split("|")
        if len(parts) != 7:
            continue
        partition, cpus, mem, gres, state, features, names = [part.strip() for part in parts]
        members = parse.expand(names)
        if any(word in state.lower() for word in AWAY):
            away[partition] = away.get(partition, 0) + len(members)
        for member in members:
            configurations[member] = (cpus, mem, gres, features)
            partitions.setdefault(member, set()).add(partition)
    kinds: dict = OrderedDict()
    for member, configuration in configurations.items():
        kind = (configuration, tuple(sorted(partitions[member])))
        kinds[kind] = kinds.get(kind, 0) + 1
    found: dict = {}
    used: dict = {}
    for ((cpus, mem, gres, features), where), count in kinds.items():
        gpus = parse.gpus(gres)
        name = "-".join(
            ["%sc" % _whole(cpus), "%dg" % round(_whole(mem) / 1024.0)]
            + ["%dx%s" % (number, kind or "gpu") for kind, number in gpus]
        )
        used[name] = used.get(name, 0) + 1
        described = {
            "name": name if used[name] == 1 else "%s-%d" % (name, used[name]),
            "count": count,
            "cpus": _whole(cpus) or 1,
            "mem": _whole(mem) * MIB,
            "gpus": [{"type": kind, "count": number, "mem": hardware.gpu_mem(kind)} for kind, number in gpus],
            "features": [word for word in features.split(",") if word and word != "(null)"],
        }
        for partition in where:
            found.setdefault(partition, []).append(described)
    return found, away


def associations(text):
    """``(accounts, qos)`` of ``sacctmgr show assoc`` lines ``account|qos``."""
    accounts: list = []
    qos: list = []
    for line in text.split("\n"):
        account, _, names = line.strip().partition("|")
        if account and account not in accounts:
            accounts.append(account)
        qos.extend(name for name in names.split(",") if name and name not in qos)
    return accounts, qos


def _associations(cluster):
    words = ["sacctmgr", "--noheader", "--parsable2", "--readonly", "show", "assoc", "where", "user=" + commands.user()]
    if cluster:
        words.append("cluster=" + cluster)
    try:
        result = commands.call(words + ["format=account,qos"], timeout_s=20.0)
    except ProxyError as error:
        return [], [], ["Your accounts and QOS are not known: %s" % error.message]
    if result.code:
        said = command.said(result).split("\n")[0]
        if "disabled" in said or "not running a supported accounting_storage" in said:
            return [], [], []
        return [], [], ["Your accounts and QOS are not known: sacctmgr: %s" % said]
    accounts, qos = associations(result.stdout)
    return accounts, qos, []


def _node_facts(options, cluster, queues):
    """What a short job says of a node: ``(facts, notes)``."""
    words = ["--%s=%s" % (name, options[name]) for name in OF_JOBS if options.get(name)]
    usable = [queue["name"] for queue in queues if queue["up"] and queue["nodes"]]
    if options.get("partition") or not any(queue["default"] for queue in queues):
        words.append("--partition=%s" % (options.get("partition") or ",".join(usable[:1])))
    fixed = ["sbatch", "--parsable", "--job-name=isthmus-probe", "--time=2", "--nodes=1", "--ntasks=1", "--no-requeue"]

    def submit(text, path, folder):
        argv = fixed + ["--output=" + path.replace("%", "%%")] + words
        if cluster:
            argv.append("--clusters=" + cluster)
        result = command.call(argv, stdin=text, cwd=folder, base=commands.submitting(os.devnull, words))
        return parse.native_id(result.stdout) if result.code == 0 else None, "sbatch: %s" % command.said(result)

    def cancel(native_id):
        number, there = parse.split_id(native_id)
        commands.cancel([number], [], there)

    return node.look(options, submit, cancel)


def _groups():
    names = set()
    for number in set(os.getgroups()) | {os.getgid()}:
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            names.add(str(number))
    return names


def _whole(text):
    digits = "".join(letter for letter in (text or "").split("+")[0] if letter.isdigit())
    return int(digits) if digits else 0
