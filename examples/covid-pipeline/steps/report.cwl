cwlVersion: v1.2
class: CommandLineTool
label: Every variant with its metrics

requirements:
  ResourceRequirement: {coresMin: 1, ramMin: 200}
  EnvVarRequirement: {envDef: {PYTHONDONTWRITEBYTECODE: "1"}}

inputs:
  code: Directory
  metrics: {type: "File[]", inputBinding: {position: 1}}

baseCommand: python3
arguments:
  - $(inputs.code.path)/report.py
  - --page=report.html
  - --table=variants.csv

outputs:
  page: {type: File, outputBinding: {glob: report.html}}
  table: {type: File, outputBinding: {glob: variants.csv}}
