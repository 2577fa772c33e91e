package static

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"testing"
)

// sights are how linear red, green and blue look to somebody (Machado, Oliveira and
// Fernandes 2009, of full severity).
var sights = map[string][3][3]float64{
	"all cones":  {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}},
	"no red":     {{0.152286, 1.052583, -0.204868}, {0.114503, 0.786281, 0.099216}, {-0.003882, -0.048116, 1.051998}},
	"no green":   {{0.367322, 0.860646, -0.227968}, {0.280085, 0.672501, 0.047413}, {-0.011820, 0.042940, 0.968881}},
	"no blue":    {{1.255528, -0.076749, -0.178779}, {-0.078411, 0.930809, 0.147602}, {0.004733, 0.691367, 0.303900}},
	"no colours": {{0.2126, 0.7152, 0.0722}, {0.2126, 0.7152, 0.0722}, {0.2126, 0.7152, 0.0722}},
}

// Colours of charts stay apart for every kind of colour-blindness; who sees no
// colours at all has the patterns and the order.
func TestChartColoursStayApart(t *testing.T) {
	css, err := os.ReadFile("src/app.css")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`--chart-(\w+): #([0-9a-f]{6});`).FindAllStringSubmatch(string(css), -1)
	if len(found) != 18 {
		t.Fatalf("%d colours of charts in app.css, want 9 for each theme", len(found))
	}
	const apart = 18.5
	for theme, colours := range map[string][][]string{"light": found[:9], "dark": found[9:]} {
		for name, sight := range sights {
			nearest, which := math.Inf(1), ""
			for i, a := range colours {
				for _, b := range colours[:i] {
					if d := distance(seen(sight, a[2]), seen(sight, b[2])); d < nearest {
						nearest, which = d, a[1]+" and "+b[1]
					}
				}
			}
			t.Logf("%s, %s: %s are nearest, %.1f apart", theme, name, which, nearest)
			if name != "no colours" && nearest < apart {
				t.Errorf("%s, %s: colours %s are only %.1f apart, want %.1f", theme, name, which, nearest, apart)
			}
		}
	}
}

// seen is a colour in CIELAB as it looks to somebody.
func seen(sight [3][3]float64, hex string) [3]float64 {
	var linear, rgb [3]float64
	for i := range linear {
		n, err := strconv.ParseUint(hex[2*i:2*i+2], 16, 8)
		if err != nil {
			panic(fmt.Sprintf("%q is no colour", hex))
		}
		c := float64(n) / 255
		if c <= 0.04045 {
			linear[i] = c / 12.92
		} else {
			linear[i] = math.Pow((c+0.055)/1.055, 2.4)
		}
	}
	for i, row := range sight {
		for j, weight := range row {
			rgb[i] += weight * linear[j]
		}
		rgb[i] = max(0, min(rgb[i], 1))
	}
	f := func(v float64) float64 {
		if v > 216.0/24389 {
			return math.Cbrt(v)
		}
		return (24389.0/27*v + 16) / 116
	}
	x := f((0.4124564*rgb[0] + 0.3575761*rgb[1] + 0.1804375*rgb[2]) / 0.95047)
	y := f(0.2126729*rgb[0] + 0.7151522*rgb[1] + 0.0721750*rgb[2])
	z := f((0.0193339*rgb[0] + 0.1191920*rgb[1] + 0.9503041*rgb[2]) / 1.08883)
	return [3]float64{116*y - 16, 500 * (x - y), 200 * (y - z)}
}

// distance is CIE76.
func distance(a, b [3]float64) float64 {
	return math.Sqrt((a[0]-b[0])*(a[0]-b[0]) + (a[1]-b[1])*(a[1]-b[1]) + (a[2]-b[2])*(a[2]-b[2]))
}
