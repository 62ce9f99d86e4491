/*
 * The tab "W&B" of a DAG run in Airflow's UI, loaded by it as a module. React is the UI's own. All text goes
 * through React, which escapes it; addresses are used only when they lead to a web page.
 */

const { createElement: h, useEffect, useMemo, useState } = globalThis.React;

const HERE = new URL(".", import.meta.url);
const REFRESH_MS = 5000;
const OPEN_UP_TO = 12;
const FINAL = new Set(["success", "failed"]);

const STYLE = `
.wandb-panel { padding: 1rem; overflow: auto; height: 100%; color: var(--chakra-colors-fg, CanvasText);
  font-size: 0.875rem; line-height: 1.4; }
.wandb-panel h2 { font-size: 1.05rem; font-weight: 600; margin: 0 0 .75rem; display: flex; gap: .75rem;
  flex-wrap: wrap; align-items: baseline; }
.wandb-panel h3 { font-weight: 600; margin: 1.25rem 0 .35rem; }
.wandb-panel table { border-collapse: collapse; width: 100%; }
.wandb-panel th, .wandb-panel td { text-align: start; padding: .3rem .6rem; vertical-align: top;
  border-bottom: 1px solid var(--chakra-colors-border-emphasized, GrayText); }
.wandb-panel thead th { color: var(--chakra-colors-fg-muted, CanvasText); font-weight: 600; white-space: nowrap; }
.wandb-panel tbody th { font-weight: 400; overflow-wrap: anywhere; min-width: 14rem; }
.wandb-panel .number { text-align: end; white-space: nowrap; font-variant-numeric: tabular-nums; }
.wandb-panel .state { white-space: nowrap; }
.wandb-panel .state::before { content: ""; display: inline-block; width: .65rem; height: .65rem;
  border-radius: 50%; margin-inline-end: .4rem; background: var(--dot, gray);
  border: 1px solid var(--chakra-colors-fg-muted, currentColor); }
.wandb-panel .metric { display: inline-block; margin-inline-end: .9rem; overflow-wrap: anywhere; }
.wandb-panel .metric b { font-weight: 600; font-variant-numeric: tabular-nums; }
.wandb-panel a { color: var(--chakra-colors-fg-info, LinkText); text-decoration: underline; }
.wandb-panel button { width: 1.3rem; text-align: center; border-radius: .2rem; cursor: pointer; color: inherit; }
.wandb-panel a:focus-visible, .wandb-panel button:focus-visible { outline: 2px solid currentColor;
  outline-offset: 1px; }
.wandb-panel .space { display: inline-block; width: 1.3rem; }
.wandb-panel .muted { color: var(--chakra-colors-fg-muted, CanvasText); }
`;

const DOTS = {
  success: "#2e9e4f", failed: "#d73a34", upstream_failed: "#e8912d", running: "#17a2b8", skipped: "#d86fb0",
  up_for_retry: "#d9b600", up_for_reschedule: "#38a3db", deferred: "#8b5cf6", awaiting_input: "#f97316",
  queued: "#8c8378", scheduled: "#a1a1aa", restarting: "#7c3aed",
};

function webAddress(url) {
  return typeof url === "string" && /^https?:\/\//i.test(url) ? url : null;
}

function outLink(url, text, label) {
  return webAddress(url) && h("a", { href: url, target: "_blank", rel: "noopener noreferrer", "aria-label": label }, text);
}

function duration(seconds) {
  if (typeof seconds !== "number") return "";
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts[0] ? `${parts[0]} h ${parts[1]} min` : `${parts[1]} min ${parts[2]} s`;
}

function figure(value) {
  return Number.isInteger(value) && Math.abs(value) < 1e15 ? String(value) : String(Number(value.toPrecision(4)));
}

function stateCell(state) {
  const text = state ?? "no status";
  return h("span", { className: "state", style: { "--dot": DOTS[state] ?? "gray" } }, text.replaceAll("_", " "));
}

function airflowPage(...parts) {
  return new URL(parts.map(encodeURIComponent).join("/"), document.baseURI).href;
}

function taskPage(run, node) {
  const mapped = node.map_index >= 0 ? ["mapped", String(node.map_index)] : [];
  return airflowPage("dags", run.dag_id, "runs", run.dag_run_id, "tasks", node.task_id, ...mapped);
}

/** List the rows that are to be seen, each with its depth and the key that its toggle opens. */
function visibleRows(nodes, toggled, depth = 0, path = "") {
  return nodes.flatMap((node) => {
    const key = `${path}/${node.label}`;
    const isOpen = toggled[key] ?? node.children.length <= OPEN_UP_TO;
    const below = isOpen ? visibleRows(node.children, toggled, depth + 1, key) : [];
    return [{ node, depth, key, isOpen }, ...below];
  });
}

/** Draw one row. Space and Enter on its button stay here: for the rest of Airflow's page they are shortcuts. */
function row(run, { node, depth, key, isOpen }, toggle) {
  const count = node.kind === "mapped" ? ` (${node.children.length})` : "";
  const lead = node.children.length
    ? h("button", {
        type: "button", "aria-expanded": isOpen, "aria-label": `${isOpen ? "Fold" : "Unfold"} ${node.label}`,
        onClick: () => toggle(key, !isOpen),
        onKeyDown: (event) => { if (event.key === " " || event.key === "Enter") event.stopPropagation(); },
      }, isOpen ? "▾" : "▸")
    : h("span", { className: "space" });
  const name = node.task_id
    ? h("a", { href: taskPage(run, node) }, node.label)
    : h("span", null, `${node.label}${count}`);
  const metrics = Object.entries(node.metrics ?? {}).map(([metric, value]) =>
    h("span", { className: "metric", key: metric }, `${metric} `, h("b", null, figure(value))));
  return h("tr", { key, "data-path": key },
    h("th", { scope: "row", style: { paddingInlineStart: `${0.6 + depth * 1.3}rem` } }, lead, " ", name),
    h("td", null, stateCell(node.state)),
    h("td", { className: "number" }, duration(node.seconds)),
    h("td", { className: "number" }, node.try_number > 1 ? node.try_number : ""),
    h("td", null, metrics),
    h("td", null, outLink(node.url, "open", `W&B run of ${node.label}`)));
}

function linkedRuns(title, runs) {
  if (!runs.length) return null;
  return h("section", { key: title }, h("h3", null, title), h("ul", null, runs.map((run) =>
    h("li", { key: `${run.dag_id}/${run.dag_run_id}` },
      h("a", { href: airflowPage("dags", run.dag_id, "runs", run.dag_run_id, "plugin", "wandb") },
        `${run.dag_id} · ${run.dag_run_id}`),
      " ", stateCell(run.state), " ", h("span", { className: "muted" }, run.kind === "asset" ? "by an asset" : ""),
      " ", outLink(run.url, "W&B run", `W&B run of ${run.dag_id}`)))));
}

async function load(dagId, runId, signal) {
  const path = `dags/${encodeURIComponent(dagId)}/runs/${encodeURIComponent(runId)}`;
  const answer = await fetch(new URL(path, HERE), { signal, headers: { Accept: "application/json" } });
  if (answer.ok) return answer.json();
  const said = {
    401: "You are no longer logged in. Reload the page.",
    403: "You may not read the runs, tasks and XComs of this DAG.",
    404: "There is no such DAG run.",
  };
  throw new Error(said[answer.status] ?? `Airflow answered with HTTP ${answer.status}.`);
}

function useDagRun(dagId, runId) {
  const [found, setFound] = useState({});
  useEffect(() => {
    const ended = new AbortController();
    let timer;
    setFound({});
    async function refresh() {
      let again = true;
      try {
        const run = await load(dagId, runId, ended.signal);
        setFound({ run });
        again = !FINAL.has(run.state);
      } catch (error) {
        if (ended.signal.aborted) return;
        setFound((before) => ({ ...before, error: error.message }));
      }
      if (again && !ended.signal.aborted) timer = setTimeout(refresh, REFRESH_MS);
    }
    refresh();
    return () => { ended.abort(); clearTimeout(timer); };
  }, [dagId, runId]);
  return found;
}

function WandbPanel({ dagId, runId }) {
  const { run, error } = useDagRun(dagId, runId);
  const [toggled, setToggled] = useState({});
  const rows = useMemo(() => (run ? visibleRows(run.nodes, toggled) : []), [run, toggled]);
  const toggle = (key, isOpen) => setToggled((before) => ({ ...before, [key]: isOpen }));
  const trouble = error && h("p", { role: "alert" }, error);
  if (!run) return h("div", { className: "wandb-panel" }, h("style", null, STYLE), trouble || "Loading…");
  return h("div", { className: "wandb-panel" },
    h("style", null, STYLE),
    trouble,
    h("h2", null, h("span", null, `${run.dag_id} · ${run.dag_run_id}`), stateCell(run.state),
      h("span", { className: "muted" }, duration(run.seconds)), outLink(run.url, "Pipeline run in W&B")),
    run.has_runs ? null : h("p", { className: "muted" }, "No task of this DAG run has a W&B run."),
    h("table", { "aria-label": "Tasks and their W&B runs" },
      h("thead", null, h("tr", null, ["Task", "State", "Duration", "Try", "Metrics", "W&B run"].map((title) =>
        h("th", { key: title, scope: "col" }, title)))),
      h("tbody", null, rows.map((entry) => row(run, entry, toggle)))),
    linkedRuns("Started by", run.triggered_by),
    linkedRuns("Started DAG runs", run.triggered));
}

globalThis["W&B"] = WandbPanel;
globalThis.AirflowPlugin = WandbPanel;
