"""Result files of other tools as rows of our fields: one file a format. evaluation/convert.py chooses among them."""
