"""Files -> decoded images -> batches on the device. In reading order:

    options.py       what the user may choose about the data: flags
    loading.py       START HERE: `open_training_data`, which goes through the folders below in their order

    datasets.py      a place that the user names -> its files: `resolve`, for a path or for a domain of a data set
    files/           the files at a path, and their pixels
      sources.py       a folder, an archive or one file, as an ordered list of entries
      archives.py      zip and tar archives, read in place
      readers.py       bytes -> tensors, by the reader of the file's extension
      decoders.py      the ordinary formats; numpy_files.py: `.npy`
      writers.py       tensors -> files, complete or absent
    layout/          files -> domains
      detection.py     START HERE: `detect_layout`
      flags.py         whether the flags name the images of every domain
      folders.py       one domain or two, by names of folders and shapes of images
      pairs.py         which images belong together: by name, or by a list

    images.py        operations on images as tensors
    synthesis.py     degraded images made from good ones: "gray(b)"
    augmentation/    what `--augment` does: albumentations in threads, kornia on the device
    batches/         pixels -> batches
      preparing.py     the sizes and the pixels that images of a domain have
      store.py         the decoded images of a domain: on the device, in memory, or in a mapped file
      decoding.py      every file decoded once, into stores
      cached_stores.py the mapped files in the cache folder
      sampling.py      which image comes when, and which part of it: pure functions of the seed
      cropping.py      these parts as a batch
      training_data.py `TrainingData.batch(step)`
    check/           `translate data check`
      detected_data.py which files are at the paths, and how they are laid out
      scan.py          every image decoded once and measured
      findings.py      problems and remarks
      report.py        the report, and a contact sheet

This file imports nothing, so that the command line can build its flags from `options` without torch.
"""
