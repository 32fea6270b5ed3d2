"""The pages: templates rendered on the server, one stylesheet, small modules, Plotly from its wheel; they work offline."""
