cwlVersion: v1.2
class: CommandLineTool
label: Train on all folds but one, and classify that one

requirements:
  ResourceRequirement: {coresMin: 1, ramMin: 1000}
  EnvVarRequirement: {envDef: {PYTHONDONTWRITEBYTECODE: "1"}}

inputs:
  code: Directory
  images: File
  start: File
  fold: int
  epochs: int

baseCommand: python3
arguments:
  - $(inputs.code.path)/train.py
  - --start=$(inputs.start.path)
  - --fold=$(inputs.fold)
  - --epochs=$(inputs.epochs)
  - --threads=$(runtime.cores)
  - $(inputs.images.path)
  - found.json

outputs:
  found: {type: File, outputBinding: {glob: found.json}}
