"""Forecasting tomorrow's volatility of a stock index, honestly.

What `make demo` runs: `prepare` writes the data, `train` is the job, `demo` submits it and tells what came out.

    prices ──► features ──► walk (models) ──► scores ──► summary
    (CSV)      (what is     (refit, forecast  (against   (sentences)
               known at     the days after,   the naive
               the close)   move on)          forecasts)
"""
