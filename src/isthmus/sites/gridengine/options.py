"""Grid Engine's own options that a site or a job may give. What a site calls memory and GPUs differs, so it is one."""

from isthmus.sites.options import Option

OPTIONS = {
    "queue": Option("list", "the queues that may be used", "-q"),
    "project": Option("text", "the project that pays", "-P"),
    "account": Option("text", "a text for the accounting file", "-A"),
    "department": Option("text", "the department", "-dept"),
    "pe": Option("text", "the parallel environment that gives several cores of one host; smp without it"),
    "memory": Option("text", "the resource by which memory is asked for; mem_free without it, none for no word of it"),
    "memory_per_slot": Option("flag", "whether memory is counted for each slot; as it is for h_vmem and its like"),
    "gpu": Option("text", "the resource by which GPUs are asked for; gpu without it"),
    "gpu_per_slot": Option("flag", "whether GPUs are counted for each slot"),
    "gpu_type": Option("text", "the resource by which a type of GPU is asked for, such as gpu_type"),
    "resources": Option("map", "further resources, such as {h: node1}", "-l"),
    "priority": Option("whole", "from -1023 to 0; lower goes later", "-p"),
    "mail_type": Option("text", "when Grid Engine sends mail, such as e", "-m"),
    "mail_user": Option("text", "to whom", "-M"),
    "reservation": Option("text", "an advance reservation", "-ar"),
    "job_class": Option("text", "the job class", "-jc"),
    "binding": Option("text", "how it is bound to cores, such as linear:4", "-binding"),
}

_RESOURCES = "The job's resources say that: {}."
ELSEWHERE = {
    "N": "A job's `name` is for people; Grid Engine is given one by which an attempt is found again.",
    "h_rt": _RESOURCES.format("time"),
    "time": _RESOURCES.format("time"),
    "cpus": _RESOURCES.format("cpus"),
    "slots": _RESOURCES.format("cpus"),
    "mem": _RESOURCES.format("mem"),
    "h_vmem": _RESOURCES.format("mem") + " With the option `memory: h_vmem` it is asked for by that name.",
    "gpus": _RESOURCES.format("gpus"),
    "hold_jid": "A job's `after` says on which jobs it waits.",
    "t": "A job's `array` says that.",
    "o": "A job's `stdout` names a file in its work folder; without it there is its log.",
    "e": "A job's `stderr` names a file in its work folder; without it there is its log.",
    "v": "A job's `env` says what its command sees.",
    "V": "A job's `env` says what its command sees.",
    "r": "A job's `retry` says when it is tried again.",
    "q": "Did you mean 'queue'?",
    "P": "Did you mean 'project'?",
    "A": "Did you mean 'account'?",
    "l": "Did you mean 'resources'?",
    "partition": "Did you mean 'queue'?",
}
