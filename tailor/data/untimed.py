"""The text about data sets without times, which the service cannot take."""

UNTIMED = (
    "has no times: it can be fitted and evaluated, but not served, since a store must know when its"
    " events happened. Import it again with a column of times, such as"
    " --columns time_ms=COLUMN"
)
