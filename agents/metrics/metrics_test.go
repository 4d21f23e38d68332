package main

import (
	"math"
	"strings"
	"testing"
)

func TestStandardDeviationsOfAKnownList(t *testing.T) {
	result := measure([]float64{2, 4, 4, 4, 5, 5, 7, 9}, nil)
	if result.StandardDeviationPopulation != 2 {
		t.Errorf("population: %v", result.StandardDeviationPopulation)
	}
	if math.Abs(*result.StandardDeviationSample-2.138089935) > 1e-9 {
		t.Errorf("sample: %v", *result.StandardDeviationSample)
	}
}

func TestCloseValuesFarFromZeroKeepTheirVariance(t *testing.T) {
	result := measure([]float64{1e9 + 4, 1e9 + 7, 1e9 + 13, 1e9 + 16}, nil)
	if *result.VarianceSample != 30 {
		t.Errorf("variance: %v", *result.VarianceSample)
	}
}

func TestPercentilesAreInterpolated(t *testing.T) {
	if found := percentile([]float64{1, 2, 3, 4}, 50); found != 2.5 {
		t.Errorf("median: %v", found)
	}
	if found := percentile([]float64{15, 20, 35, 40, 50}, 40); math.Abs(found-29) > 1e-12 {
		t.Errorf("40th: %v", found)
	}
}

func TestInputThatMakesNoSenseIsExplained(t *testing.T) {
	for input, expected := range map[string]string{
		"":                                   "the input is empty",
		"[]":                                 "there are no values",
		"[1, \"2\"]":                         "a string stands where a number is needed",
		strings.Repeat("[", 100000):          "nested too deep",
		`{"values":[1],"]":"[{\""}`:          "unknown field",
		"[1,":                                "not JSON",
		"[1]]":                               "there is more",
		"[1,null]":                           "value 2 is null",
		"[1] [2]":                            "there is more",
		`{"values":[1],"percentiles":[101]}`: "percentile 101",
		`{"value":[1]}`:                      "unknown field",
		"[1e308,1e308]":                      "too large",
	} {
		_, err := answer([]byte(input))
		if err == nil || !strings.Contains(err.Error(), expected) {
			t.Errorf("%q: %v", input, err)
		}
	}
}
