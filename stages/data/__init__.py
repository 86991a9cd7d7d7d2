"""Sources of questions.

files.py      rows of JSONL, JSON, CSV and Parquet files, and of datasets on the hub
formats.py    every source format, and how its rows become questions
checks.py     what a question must be
addition.py   the additions of the tiny task
"""
