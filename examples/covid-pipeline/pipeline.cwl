cwlVersion: v1.2
class: Workflow
label: From images to a comparison of every way to classify them
doc: |
  The shape of a clinical pipeline: segmentation, augmentation, pre-training, classification with cross-validation, metrics.
  Every combination of what the inputs list is a variant. Only `pretrain` and `variant/train` want a cluster.

requirements:
  ScatterFeatureRequirement: {}
  SubworkflowFeatureRequirement: {}

inputs:
  code: {type: Directory, default: {class: Directory, location: code}}
  images: {type: int, default: 0, doc: "How many to compare on; 0 is all 1497."}
  folds: {type: "int[]", doc: "The numbers of the folds, from 0."}
  fold_count: int
  segmentations: {type: "string[]", doc: "none, learned"}
  augmentations: {type: "string[]", doc: "none, shift, noise"}
  pretrainings: {type: "string[]", doc: "none, restoring"}
  networks: {type: "string[]", doc: "plain, residual, dense"}
  epochs: {type: int, default: 12, doc: "Of classification; the other trainings have their own."}
  segment_epochs: {type: int, default: 40}
  pretrain_epochs: {type: int, default: 30}

outputs:
  report: {type: File, outputSource: report/page}
  table: {type: File, outputSource: report/table}

steps:
  prepare:
    run: steps/prepare.cwl
    in: {code: code, images: images, folds: fold_count}
    out: [images]

  segment:
    run: steps/segment.cwl
    scatter: how
    in: {code: code, images: prepare/images, how: segmentations, epochs: segment_epochs}
    out: [images]

  augment:
    run: steps/augment.cwl
    scatter: [images, how]
    scatterMethod: flat_crossproduct
    in: {code: code, images: segment/images, how: augmentations}
    out: [images]

  pretrain:
    run: steps/pretrain.cwl
    scatter: [network, how]
    scatterMethod: flat_crossproduct
    in: {code: code, images: prepare/images, network: networks, how: pretrainings, epochs: pretrain_epochs}
    out: [start]

  variant:
    run: variant.cwl
    scatter: [images, start]
    scatterMethod: flat_crossproduct
    in: {code: code, images: augment/images, start: pretrain/start, folds: folds, epochs: epochs}
    out: [metrics]

  report:
    run: steps/report.cwl
    in: {code: code, metrics: variant/metrics}
    out: [page, table]
