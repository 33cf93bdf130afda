cwlVersion: v1.2
class: CommandLineTool
label: Teach a network to restore images of the atlas

requirements:
  ResourceRequirement: {coresMin: 1, ramMin: 1000}
  EnvVarRequirement: {envDef: {PYTHONDONTWRITEBYTECODE: "1"}}

inputs:
  code: Directory
  images: File
  network: string
  how: string
  epochs: int

baseCommand: python3
arguments:
  - $(inputs.code.path)/pretrain.py
  - --network=$(inputs.network)
  - --how=$(inputs.how)
  - --epochs=$(inputs.epochs)
  - --threads=$(runtime.cores)
  - $(inputs.images.path)
  - start.pt

outputs:
  start: {type: File, outputBinding: {glob: start.pt}}
