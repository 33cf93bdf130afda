cwlVersion: v1.2
class: CommandLineTool
label: Find the digit in each image

requirements:
  ResourceRequirement: {coresMin: 1, ramMin: 1000}
  EnvVarRequirement: {envDef: {PYTHONDONTWRITEBYTECODE: "1"}}

inputs:
  code: Directory
  images: File
  how: string
  epochs: int

baseCommand: python3
arguments:
  - $(inputs.code.path)/segment.py
  - --how=$(inputs.how)
  - --epochs=$(inputs.epochs)
  - --threads=$(runtime.cores)
  - $(inputs.images.path)
  - segmented.npz

outputs:
  images: {type: File, outputBinding: {glob: segmented.npz}}
