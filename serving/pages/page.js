// The page's behaviour: interval plots in the colours of the stylesheet, times in the reader's zone.
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function draw(box, figure) {
  const ink = css("ink"), line = css("line");
  const narrow = box.clientWidth < 520;
  const data = figure.data.map((trace) => ({
    ...trace,
    marker: { ...trace.marker, color: css(trace.meta), line: { width: 3, color: ink } },
    error_x: { ...trace.error_x, color: css(trace.meta) },
  }));
  const layout = {
    height: figure.height,
    margin: { l: 8, r: 12, t: 8, b: 40 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: ink, family: getComputedStyle(document.body).fontFamily, size: narrow ? 11 : 13 },
    showlegend: false,
    xaxis: { title: { text: figure.title, font: { size: narrow ? 11 : 13 } }, gridcolor: line, zeroline: true, zerolinecolor: ink, zerolinewidth: 2, fixedrange: true },
    yaxis: { automargin: true, categoryorder: "array", categoryarray: figure.order, fixedrange: true, showgrid: false, ticklabelstandoff: 8 },
  };
  Plotly.react(box, data, layout, { displayModeBar: false, responsive: true });
}

const figures = [...document.querySelectorAll(".figure")].map((box) => {
  const figure = JSON.parse(box.querySelector("script").textContent);
  box.replaceChildren();
  return [box, figure];
});
const drawAll = () => figures.forEach(([box, figure]) => draw(box, figure));
drawAll();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);

for (const element of document.querySelectorAll("time[datetime]")) {
  element.textContent = new Date(element.dateTime).toLocaleString();
}
document.documentElement.dataset.ready = "yes";
