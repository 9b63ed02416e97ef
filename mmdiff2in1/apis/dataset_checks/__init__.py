"""The single checks: of a pair, a label, the files of a set, the fields of a config. Two jobs call them: `data_check`
before every training, and `dataset_report` for all files."""
