/**
 * The chart of ring buffers compared with C: a dot per ratio, on a logarithmic scale on which C is 1. `bun bench/ring.ts`
 * writes it.
 *
 * The chart has no background, and its colours have contrast on light and on dark pages.
 */
import { type Figure, isMet, type Report } from "./support/report.ts";

const ink = "#6e7781";
const grid = "#6e778155";
const good = "#388bfd";
const bad = "#db6d28";

const width = 760;
const rowHeight = 20;
const headHeight = 28;
const left = 290;
const right = 64;
const top = 44;
const bottom = 44;
const ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50];

/** A dot of the chart. Lower ratios are better. */
interface Row {
  readonly label: string;
  readonly ratio: number;
  readonly target: number | undefined;
  readonly missed: boolean;
}

interface Group {
  readonly title: string;
  readonly rows: readonly Row[];
}

/** The groups of the chart: the report and the figures that each shows, and its title. */
const groups: readonly {
  readonly report: string;
  readonly title: string;
  shows(figure: Figure): boolean;
}[] = [
  { report: "drain", title: "Reading a record from a full ring", shows: () => true },
  {
    report: "flood",
    title: "Time per event, at full speed of the producer",
    shows: ({ unit }) => unit === "M/s",
  },
  {
    report: "latency",
    title: "Wake-up latency",
    shows: ({ what }) => !what.includes("timer"),
  },
];

/** Returns the chart as the text of an SVG file. */
export function plot(reports: readonly Report[], machine: string): string {
  const shown = groups
    .map(({ report, title, shows }): Group => {
      const figures = reports.find(({ name }) => name === report)?.figures ?? [];
      return { title, rows: figures.filter(shows).flatMap(rowOf) };
    })
    .filter(({ rows }) => rows.length > 0);
  const height = shown.reduce(
    (sum, { rows }) => sum + headHeight + rows.length * rowHeight,
    top + bottom,
  );
  const x = scale(shown.flatMap(({ rows }) => rows));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" role="img" font-family="system-ui, sans-serif" font-size="12" fill="${ink}">
<title>Ring buffers in Bun relative to C with libbpf</title>
${text(0, 16, "Ring buffers: time relative to C with libbpf", `font-size="15" font-weight="600"`)}
${axis(x, height)}
${body(shown, x)}
${legend(height)}
${text(width, height - 6, escape(machine), `text-anchor="end" font-size="11"`)}
</svg>
`;
}

/** Returns the row of a figure. A rate becomes a time, so that lower is better in all rows. */
function rowOf(figure: Figure): Row[] {
  const { what, unit, ratio, target } = figure;
  if (ratio === undefined || !Number.isFinite(ratio) || ratio <= 0) return [];
  const isRate = unit.endsWith("/s");
  const wanted = target?.of === "ratio" ? (target.atMost ?? target.atLeast) : undefined;
  return [
    {
      label: isRate ? what.replace(/, events$/, "") : what,
      ratio: isRate ? 1 / ratio : ratio,
      target: wanted === undefined || !isRate ? wanted : 1 / wanted,
      missed: isMet(figure) === false,
    },
  ];
}

interface Scale {
  /** Returns the x coordinate of a ratio. */
  at(ratio: number): number;
  readonly ticks: readonly number[];
}

function scale(rows: readonly Row[]): Scale {
  const all = rows.flatMap(({ ratio, target }) =>
    target === undefined ? [ratio] : [ratio, target],
  );
  const least = Math.min(1, ...all);
  const most = Math.max(1, ...all);
  const first = ticks.findLast((tick) => tick <= least) ?? ticks[0] ?? least;
  const last = ticks.find((tick) => tick >= most) ?? most;
  const span = Math.log(last / first);
  return {
    at: (ratio) =>
      left + (Math.log(Math.max(ratio, first) / first) / span) * (width - left - right),
    ticks: ticks.filter((tick) => tick >= first && tick <= last),
  };
}

function axis({ at, ticks: shown }: Scale, height: number): string {
  return shown
    .map((tick) => {
      const x = at(tick).toFixed(1);
      const line = tick === 1 ? `stroke="${ink}" stroke-width="1.5"` : `stroke="${grid}"`;
      const label = text(x, top - 6, tick === 1 ? "C" : `${tick}`, `text-anchor="middle"`);
      return `<path d="M${x} ${top}V${height - bottom}" ${line}/>${label}`;
    })
    .join("\n");
}

function body(shown: readonly Group[], { at }: Scale): string {
  const parts: string[] = [];
  let y = top;
  for (const { title, rows } of shown) {
    y += headHeight;
    parts.push(text(0, y - 8, escape(title), `font-weight="600"`));
    for (const { label, ratio, target, missed } of rows) {
      const middle = y + rowHeight / 2;
      const x = at(ratio);
      const color = missed ? bad : good;
      parts.push(text(left - 12, middle + 4, escape(label), `text-anchor="end"`));
      parts.push(
        `<path d="M${at(1).toFixed(1)} ${middle}H${x.toFixed(1)}" stroke="${color}" stroke-width="2"/>`,
        `<circle cx="${x.toFixed(1)}" cy="${middle}" r="5" fill="${color}"/>`,
      );
      if (target !== undefined) parts.push(targetMark(at(target), middle));
      // The ratios are in a separate column, because next to the dots they would cover the targets.
      const value = ratio.toFixed(ratio < 10 ? 2 : 0);
      parts.push(text(width - 4, middle + 4, value, `fill="${color}" text-anchor="end"`));
      y += rowHeight;
    }
  }
  return parts.join("\n");
}

function targetMark(x: number, y: number): string {
  return `<path d="M${x.toFixed(1)} ${y - 7}V${y + 7}" stroke="${ink}" stroke-width="2.5"/>`;
}

function legend(height: number): string {
  const y = height - 24;
  return [
    `<circle cx="6" cy="${y - 4}" r="5" fill="${good}"/>${text(16, y, "measured: lower is better")}`,
    `${targetMark(172, y - 4)}${text(180, y, "target: at most")}`,
    `<circle cx="282" cy="${y - 4}" r="5" fill="${bad}"/>${text(292, y, "target missed")}`,
  ].join("\n");
}

function text(x: number | string, y: number, content: string, attributes = ""): string {
  return `<text x="${x}" y="${y}"${attributes === "" ? "" : ` ${attributes}`}>${content}</text>`;
}

function escape(content: string): string {
  return content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}
