"use strict";
(function () {
  const source = document.getElementById("chart-data");
  if (!source) return;
  for (const chart of JSON.parse(source.textContent)) {
    const target = document.getElementById(chart.id);
    if (!window.Plotly) {
      target.textContent = "The chart could not be drawn: plotly.min.js is not there.";
      continue;
    }
    target.textContent = "";
    window.Plotly.newPlot(target, chart.data, chart.layout, { responsive: true, displayModeBar: false });
  }
})();
