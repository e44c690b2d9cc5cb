package main

import "math"

// anchor is a point that stands for everything nearer to it than to another anchor.
type anchor struct {
	name     string
	lat, lon float64 // degrees
}

// anchors are large cities where networks meet, closer together where many people live.
var anchors = []anchor{
	// North America
	{"Anchorage", 61.22, -149.90},
	{"Atlanta", 33.75, -84.39},
	{"Ashburn", 39.04, -77.49},
	{"Chicago", 41.88, -87.63},
	{"Dallas", 32.78, -96.80},
	{"Denver", 39.74, -104.99},
	{"Honolulu", 21.31, -157.86},
	{"Los Angeles", 34.05, -118.24},
	{"Mexico City", 19.43, -99.13},
	{"Miami", 25.76, -80.19},
	{"Montreal", 45.50, -73.57},
	{"New York", 40.71, -74.01},
	{"San Francisco", 37.77, -122.42},
	{"Seattle", 47.61, -122.33},
	{"Toronto", 43.65, -79.38},
	{"Winnipeg", 49.90, -97.14},
	// Central and South America
	{"Bogotá", 4.71, -74.07},
	{"Buenos Aires", -34.60, -58.38},
	{"Fortaleza", -3.73, -38.53},
	{"Lima", -12.05, -77.04},
	{"Manaus", -3.12, -60.02},
	{"Panama City", 8.98, -79.52},
	{"San Juan", 18.47, -66.11},
	{"Santiago", -33.45, -70.67},
	{"São Paulo", -23.55, -46.63},
	// Europe
	{"Amsterdam", 52.37, 4.90},
	{"Athens", 37.98, 23.73},
	{"Bucharest", 44.43, 26.10},
	{"Dublin", 53.35, -6.26},
	{"Frankfurt", 50.11, 8.68},
	{"Helsinki", 60.17, 24.94},
	{"Istanbul", 41.01, 28.98},
	{"Kyiv", 50.45, 30.52},
	{"Lisbon", 38.72, -9.14},
	{"London", 51.51, -0.13},
	{"Madrid", 40.42, -3.70},
	{"Marseille", 43.30, 5.37},
	{"Milan", 45.46, 9.19},
	{"Moscow", 55.76, 37.62},
	{"Oslo", 59.91, 10.75},
	{"Paris", 48.86, 2.35},
	{"Reykjavík", 64.15, -21.94},
	{"Stockholm", 59.33, 18.07},
	{"Vienna", 48.21, 16.37},
	{"Warsaw", 52.23, 21.01},
	{"Yekaterinburg", 56.84, 60.61},
	// Africa
	{"Addis Ababa", 9.02, 38.75},
	{"Cairo", 30.04, 31.24},
	{"Cape Town", -33.92, 18.42},
	{"Casablanca", 33.57, -7.59},
	{"Dakar", 14.69, -17.45},
	{"Johannesburg", -26.20, 28.05},
	{"Kinshasa", -4.32, 15.31},
	{"Lagos", 6.52, 3.38},
	{"Nairobi", -1.29, 36.82},
	{"Tunis", 36.81, 10.18},
	// Asia
	{"Almaty", 43.24, 76.89},
	{"Bangkok", 13.76, 100.50},
	{"Beijing", 39.90, 116.41},
	{"Chengdu", 30.57, 104.07},
	{"Chennai", 13.08, 80.27},
	{"Delhi", 28.61, 77.21},
	{"Dhaka", 23.81, 90.41},
	{"Dubai", 25.20, 55.27},
	{"Hanoi", 21.03, 105.85},
	{"Hong Kong", 22.32, 114.17},
	{"Jakarta", -6.21, 106.85},
	{"Karachi", 24.86, 67.00},
	{"Manila", 14.60, 120.98},
	{"Mumbai", 19.08, 72.88},
	{"Novosibirsk", 55.03, 82.92},
	{"Riyadh", 24.71, 46.68},
	{"Seoul", 37.57, 126.98},
	{"Shanghai", 31.23, 121.47},
	{"Singapore", 1.35, 103.82},
	{"Taipei", 25.03, 121.57},
	{"Tehran", 35.69, 51.39},
	{"Tel Aviv", 32.09, 34.78},
	{"Tokyo", 35.68, 139.69},
	{"Osaka", 34.69, 135.50},
	{"Vladivostok", 43.12, 131.89},
	// Oceania
	{"Auckland", -36.85, 174.76},
	{"Guam", 13.44, 144.79},
	{"Melbourne", -37.81, 144.96},
	{"Perth", -31.95, 115.86},
	{"Suva", -18.12, 178.45},
	{"Sydney", -33.87, 151.21},
}

// nearest returns the index of the anchor with the smallest great-circle distance. Chords order points as arcs do.
func nearest(lat, lon float64) int {
	x, y, z := unit(lat, lon)
	best, bestDot := 0, -2.0
	for i, u := range anchorUnits {
		if dot := x*u[0] + y*u[1] + z*u[2]; dot > bestDot {
			best, bestDot = i, dot
		}
	}
	return best
}

var anchorUnits = func() [][3]float64 {
	units := make([][3]float64, len(anchors))
	for i, a := range anchors {
		units[i][0], units[i][1], units[i][2] = unit(a.lat, a.lon)
	}
	return units
}()

func unit(lat, lon float64) (x, y, z float64) {
	lat, lon = lat*math.Pi/180, lon*math.Pi/180
	return math.Cos(lat) * math.Cos(lon), math.Cos(lat) * math.Sin(lon), math.Sin(lat)
}
