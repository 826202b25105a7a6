"""The questions of the study, one file each; in a wheel they are the package perfgate.study.tests."""
