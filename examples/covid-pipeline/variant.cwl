cwlVersion: v1.2
class: Workflow
label: One variant, trained once for each fold

requirements:
  ScatterFeatureRequirement: {}

inputs:
  code: Directory
  images: File
  start: File
  folds: int[]
  epochs: int

outputs:
  metrics: {type: File, outputSource: metrics/metrics}

steps:
  train:
    run: steps/train.cwl
    scatter: fold
    in: {code: code, images: images, start: start, fold: folds, epochs: epochs}
    out: [found]

  metrics:
    run: steps/metrics.cwl
    in: {code: code, folds: train/found}
    out: [metrics]
