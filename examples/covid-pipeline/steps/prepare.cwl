cwlVersion: v1.2
class: CommandLineTool
label: Place digits in noisy fields, and deal them to folds

requirements:
  ResourceRequirement: {coresMin: 1, ramMin: 600}
  EnvVarRequirement: {envDef: {PYTHONDONTWRITEBYTECODE: "1"}}

inputs:
  code: Directory
  images: int
  folds: int

baseCommand: python3
arguments:
  - $(inputs.code.path)/images.py
  - --images=$(inputs.images)
  - --folds=$(inputs.folds)
  - images.npz

outputs:
  images: {type: File, outputBinding: {glob: images.npz}}
