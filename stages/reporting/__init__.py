"""The report: figures (`figures.py`), tables, notes and examples (`content.py`), one page of it all
(`page.py` with page.html, page.css and page.js). Data comes in as tables, HTML goes out."""
