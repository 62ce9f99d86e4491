"use strict";
(function () {
  const source = document.getElementById("chart-data");
  if (!source) return;
  function draw(chart) {
    const target = document.getElementById(chart.id);
    if (!window.Plotly) {
      target.textContent = "The chart could not be drawn: plotly.min.js is not there.";
      return;
    }
    target.textContent = "";
    window.Plotly.newPlot(target, chart.data, chart.layout, { responsive: true, displayModeBar: false });
  }
  for (const chart of JSON.parse(source.textContent)) {
    const closed = document.getElementById(chart.id).closest("details:not([open])");
    // What is hidden has no width to draw in.
    if (closed) closed.addEventListener("toggle", () => draw(chart), { once: true });
    else draw(chart);
  }
})();
