"""Faults of data and settings: a spread of files before every training (`data_check`), all of them on request
(`check_datasets`). The single checks stand in a file each."""
