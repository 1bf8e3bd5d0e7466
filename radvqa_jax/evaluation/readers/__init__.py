"""Result files of other tools as rows of our fields: one file for each format; evaluation/convert.py chooses one."""
