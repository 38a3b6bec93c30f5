"""Pictures and words made from the tables: report.html, figures, LaTeX, exports.

It computes no result: what it shows stands in a table, or is a statistic of `results`.
"""
