//! The page around the sections: one file, its own style for screen and print, nothing from outside.

use std::fmt::Write as _;

use super::svg::escape;

/// A table.
#[derive(Debug, Default)]
pub struct Table {
    html: String,
}

impl Table {
    /// With these column titles. The first column is text, the others are numbers.
    pub fn new<T: AsRef<str>>(titles: impl IntoIterator<Item = T>) -> Self {
        let mut html = "<table><thead><tr>".to_owned();
        for title in titles {
            let _ = write!(html, "<th>{}</th>", escape(title.as_ref()));
        }
        html += "</tr></thead><tbody>";
        Self { html }
    }

    /// Adds a row.
    pub fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) {
        self.html += "<tr>";
        for cell in cells {
            let _ = write!(self.html, "<td>{}</td>", escape(cell.as_ref()));
        }
        self.html += "</tr>";
    }

    /// The whole table.
    pub fn html(self) -> String {
        self.html + "</tbody></table>"
    }
}

/// A paragraph of plain text.
pub fn paragraph(text: &str) -> String {
    format!("<p>{}</p>", escape(text))
}

/// A plot with its caption; nothing without a plot.
pub fn figure(svg: &str, caption: &str) -> String {
    if svg.is_empty() {
        return String::new();
    }
    format!("<figure>{svg}<figcaption>{}</figcaption></figure>", escape(caption))
}

/// A section, unless it is empty.
pub fn section(title: &str, body: &str) -> String {
    if body.is_empty() {
        String::new()
    } else {
        format!("<section><h2>{}</h2>{body}</section>", escape(title))
    }
}

const STYLE: &str = "
:root{--ink:#1c2430;--soft:#5b6675;--rule:#d5dae1;--paper:#fff;--c0:#0b5cad;--c1:#c2410c;--c2:#15803d;--c3:#7e22ce;\
--c4:#374151;--c5:#0e7490}
*{box-sizing:border-box}
body{margin:0 auto;max-width:60rem;padding:2rem 1.5rem 4rem;background:var(--paper);color:var(--ink);\
font:16px/1.5 system-ui,'Segoe UI','Helvetica Neue',Arial,sans-serif}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .3rem}
h2{font-size:1.3rem;margin:2.6rem 0 .6rem;padding-top:.8rem;border-top:2px solid var(--ink)}
h3{font-size:1.05rem;margin:1.6rem 0 .4rem}
p{margin:.5rem 0;max-width:48rem}
.lead,figcaption{color:var(--soft)}
.warn{border-left:4px solid var(--c1);padding:.4rem .8rem;background:#fff5ef}
figure{margin:1.2rem 0}
figcaption{font-size:.88rem;margin-top:.3rem}
svg{width:100%;height:auto;display:block;font:12px system-ui,'Segoe UI',Arial,sans-serif}
svg text{fill:var(--ink)}
.grid{stroke:var(--rule);stroke-width:1}
.mark{stroke:var(--soft);stroke-width:1.4;stroke-dasharray:6 4}
.line{fill:none;stroke-width:2.2}
.s0{stroke:var(--c0);color:var(--c0)}.s1{stroke:var(--c1);color:var(--c1)}.s2{stroke:var(--c2);color:var(--c2)}
.s3{stroke:var(--c3);color:var(--c3)}.s4{stroke:var(--c4);color:var(--c4)}.s5{stroke:var(--c5);color:var(--c5)}
.dot{fill:currentColor}
.f0{fill:var(--c0)}.f1{fill:var(--c1)}.f2{fill:var(--c2)}.f3{fill:var(--c3)}.f4{fill:var(--c4)}.f5{fill:var(--c5)}
.part{stroke:var(--paper);stroke-width:1}
svg .inside{fill:#fff}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem;font-variant-numeric:tabular-nums;margin:.8rem 0;width:100%}
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid var(--rule);vertical-align:bottom}
th:first-child,td:first-child{text-align:left}
th{border-bottom:2px solid var(--ink);font-weight:600}
@media print{
@page{size:A4;margin:16mm 14mm}
body{max-width:none;padding:0;font-size:10pt}
h1{font-size:18pt}h2{font-size:13pt;margin-top:1.4rem}h2,h3{break-after:avoid}
figure,tr{break-inside:avoid}
thead{display:table-header-group}
table{font-size:8.5pt}
.wide{overflow:visible}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
";

/// The whole file.
pub fn page(title: &str, lead: &str, sections: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>{0}</title>\
         <style>{STYLE}</style></head><body><h1>{0}</h1><p class=\"lead\">{1}</p>{sections}</body></html>\n",
        escape(title),
        escape(lead)
    )
}
