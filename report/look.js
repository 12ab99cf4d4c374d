// Appended to a copy of a page: tells the page around it what is wrong with how
// it is laid out. Texts that overlap, that leave their drawing or their page, or
// that are too small to be read.
(function () {
	const wrong = [];
	const name = (e) => `"${e.textContent.slice(0, 20)}"`;
	const overlap = (a, b) => a.left < b.right - 0.5 && b.left < a.right - 0.5 && a.top < b.bottom - 0.5 && b.top < a.bottom - 0.5;
	for (const figure of document.querySelectorAll("figure")) {
		const svg = figure.querySelector("svg.chart");
		const texts = [...figure.querySelectorAll("svg.chart text, .legend li, h3, figcaption span")];
		const boxes = texts.map((t) => t.getBoundingClientRect());
		const around = figure.getBoundingClientRect();
		for (let i = 0; i < texts.length; i++) {
			for (let j = 0; j < i; j++)
				if (overlap(boxes[i], boxes[j])) wrong.push(`${name(texts[i])} overlaps ${name(texts[j])} in ${name(figure)}`);
			if (boxes[i].left < around.left || boxes[i].right > around.right) wrong.push(`${name(texts[i])} leaves ${name(figure)}`);
		}
		for (const text of svg ? svg.querySelectorAll("text") : []) {
			const size = parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
			if (size < 9.5) wrong.push(`${name(text)} is ${size.toFixed(1)} px high`);
		}
	}
	if (document.documentElement.scrollWidth > window.innerWidth) wrong.push(`the page is ${document.documentElement.scrollWidth} px wide`);
	for (const e of document.querySelectorAll("h1, h2, p, li, dt, dd, summary, header *, .state *"))
		if (!e.closest(".scroll, .sr") && !e.classList.contains("sr") && e.getBoundingClientRect().right > window.innerWidth + 0.5)
			wrong.push(`${name(e)} leaves the page`);
	const luminance = (c) => {
		const [r, g, b] = c.match(/[\d.]+/g).map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
		return 0.2126 * r + 0.7152 * g + 0.0722 * b;
	};
	const ground = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!/, 0\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
	for (const e of document.querySelectorAll("p, li, dt, dd, td, th, h1, h2, h3, a, small, span, text, summary, footer")) {
		const style = getComputedStyle(e);
		const [a, b] = [luminance(e.tagName === "text" ? style.fill : style.color), luminance(ground(e))].sort((x, y) => y - x);
		if ((a + 0.05) / (b + 0.05) < 4.5) { wrong.push(`${name(e)} has a contrast of ${((a + 0.05) / (b + 0.05)).toFixed(1)}`); break; }
	}
	parent.postMessage(JSON.stringify({
		wrong, title: document.title, charts: document.querySelectorAll("svg.chart").length, frames: document.querySelectorAll("iframe, img, script:not([data-look])").length,
		dark: matchMedia("(prefers-color-scheme: dark)").matches, ground: getComputedStyle(document.body).backgroundColor, width: window.innerWidth }), "*");
})();
