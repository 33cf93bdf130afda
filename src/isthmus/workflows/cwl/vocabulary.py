"""The words of CWL: which fields stand where, which requirements there are, in which versions.

From the specifications of CWL v1.0, v1.1 and v1.2 (CommandLineTool.yml, Workflow.yml, Process.yml, Operation.yml).
"""

VERSIONS = ("v1.0", "v1.1", "v1.2")

PROCESS = frozenset(
    {
        *("id", "class", "cwlVersion", "label", "doc", "inputs", "outputs", "requirements", "hints", "intent"),
        *("$namespaces", "$schemas", "$base", "$graph"),
    }
)
FIELDS = {
    "CommandLineTool": PROCESS
    | {
        *("baseCommand", "arguments", "stdin", "stdout", "stderr"),
        *("successCodes", "temporaryFailCodes", "permanentFailCodes"),
    },
    "ExpressionTool": PROCESS | {"expression"},
    "Workflow": PROCESS | {"steps"},
    "Operation": PROCESS,
}

PARAMETER = frozenset({"id", "label", "doc", "type", "secondaryFiles", "streamable", "format"})
INPUT = PARAMETER | {"default", "inputBinding", "loadContents", "loadListing"}
OUTPUT = PARAMETER | {"outputBinding"}
WORKFLOW_OUTPUT = OUTPUT | {"outputSource", "linkMerge", "pickValue"}
RECORD_FIELD = (INPUT | OUTPUT | {"name"}) - {"id"}
BINDING = frozenset(
    {"position", "prefix", "separate", "itemSeparator", "valueFrom", "shellQuote", "loadContents", "loadListing"}
)
OUTPUT_BINDING = frozenset({"glob", "loadContents", "loadListing", "outputEval"})
STEP = frozenset(
    {
        *("id", "label", "doc", "in", "out", "requirements", "hints", "run", "when", "scatter", "scatterMethod"),
        "intent",
    }
)
STEP_INPUT = frozenset(
    {"id", "source", "linkMerge", "pickValue", "default", "valueFrom", "label", "loadContents", "loadListing", "doc"}
)

REQUIREMENTS = {
    "InlineJavascriptRequirement": frozenset({"expressionLib"}),
    "SchemaDefRequirement": frozenset({"types"}),
    "DockerRequirement": frozenset(
        {"dockerPull", "dockerLoad", "dockerFile", "dockerImport", "dockerImageId", "dockerOutputDirectory"}
    ),
    "SoftwareRequirement": frozenset({"packages"}),
    "InitialWorkDirRequirement": frozenset({"listing"}),
    "EnvVarRequirement": frozenset({"envDef"}),
    "ShellCommandRequirement": frozenset(),
    "ResourceRequirement": frozenset(
        {
            *("coresMin", "coresMax", "ramMin", "ramMax", "tmpdirMin", "tmpdirMax", "outdirMin", "outdirMax"),
        }
    ),
    "WorkReuse": frozenset({"enableReuse"}),
    "NetworkAccess": frozenset({"networkAccess"}),
    "InplaceUpdateRequirement": frozenset({"inplaceUpdate"}),
    "ToolTimeLimit": frozenset({"timelimit"}),
    "LoadListingRequirement": frozenset({"loadListing"}),
    "SubworkflowFeatureRequirement": frozenset(),
    "ScatterFeatureRequirement": frozenset(),
    "MultipleInputFeatureRequirement": frozenset(),
    "StepInputExpressionRequirement": frozenset(),
    "cwltool:Loop": frozenset({"loopWhen", "loop", "outputMethod"}),
    "cwltool:MPIRequirement": frozenset({"processes"}),
    "cwltool:CUDARequirement": frozenset(
        {"cudaVersionMin", "cudaComputeCapability", "cudaDeviceCountMin", "cudaDeviceCountMax"}
    ),
    "cwltool:Secrets": frozenset({"secrets"}),
}

EXTENSIONS = "http://commonwl.org/cwltool#"
# Extensions whose work a later version of the language does under a name of its own.
SUCCESSORS = {
    "cwltool:LoadListingRequirement": "LoadListingRequirement",
    "cwltool:InplaceUpdateRequirement": "InplaceUpdateRequirement",
    "cwltool:TimeLimit": "ToolTimeLimit",
    "cwltool:WorkReuse": "WorkReuse",
    "cwltool:NetworkAccess": "NetworkAccess",
}

# Words that came with a later version: a document of an earlier one has no such thing.
SINCE = {
    "v1.1": frozenset(
        {
            *("WorkReuse", "NetworkAccess", "InplaceUpdateRequirement", "ToolTimeLimit", "LoadListingRequirement"),
            *("loadListing",),
        }
    ),
    "v1.2": frozenset({"when", "pickValue", "intent"}),
}

LISTINGS = ("no_listing", "shallow_listing", "deep_listing")
MERGES = ("merge_nested", "merge_flattened")
PICKS = ("first_non_null", "the_only_non_null", "all_non_null")
METHODS = ("dotproduct", "nested_crossproduct", "flat_crossproduct")
