cwlVersion: v1.2
class: CommandLineTool
label: Make more images of each

requirements:
  ResourceRequirement: {coresMin: 1, ramMin: 600}
  EnvVarRequirement: {envDef: {PYTHONDONTWRITEBYTECODE: "1"}}

inputs:
  code: Directory
  images: File
  how: string

baseCommand: python3
arguments:
  - $(inputs.code.path)/augment.py
  - --how=$(inputs.how)
  - $(inputs.images.path)
  - augmented.npz

outputs:
  images: {type: File, outputBinding: {glob: augmented.npz}}
