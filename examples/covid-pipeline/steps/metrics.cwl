cwlVersion: v1.2
class: CommandLineTool
label: The scores of a variant over its folds

requirements:
  ResourceRequirement: {coresMin: 1, ramMin: 600}
  EnvVarRequirement: {envDef: {PYTHONDONTWRITEBYTECODE: "1"}}

inputs:
  code: Directory
  folds: {type: "File[]", inputBinding: {position: 1}}

baseCommand: python3
arguments:
  - $(inputs.code.path)/metrics.py
  - metrics.json

outputs:
  metrics: {type: File, outputBinding: {glob: metrics.json}}
