package demo

var firstNames = []string{
	"Amara", "Bastian", "Chiara", "Dmitri", "Elif", "Farid", "Greta", "Hiro", "Imani", "Jonas", "Keiko", "Lucía", "Milan", "Noor",
	"Oskar", "Priya", "Quentin", "Rosa", "Sven", "Tamar", "Umar", "Vera", "Wanjiru", "Ximena", "Yusuf", "Zofia", "Anouk", "Bo", "Carmen",
	"Dalia", "Emeka", "Freya", "Goran", "Hana", "Ivo", "Jamila", "Kofi", "Leila", "Mateo", "Nadia",
}

var lastNames = []string{
	"Abara", "Bergström", "Castillo", "Dvorak", "Eriksen", "Fontaine", "Grau", "Haddad", "Ito", "Jansen", "Kaminski", "Lindqvist",
	"Moreau", "Nakamura", "Okafor", "Petrov", "Quispe", "Rahman", "Silva", "Takahashi", "Ulrich", "Vargas", "Weiss", "Xu", "Yilmaz", "Zeman",
	"Achterberg", "Bianchi", "Chowdhury", "Demir", "Ekström", "Ferrari", "Gupta", "Horvat", "Ibarra", "Jovanovic", "Kowalska", "Larsen", "Mwangi", "Nowak",
}

var teamNames = []string{
	"Spring cohort", "Evening class", "Support desk", "Product managers", "Marketing studio", "Data analysts", "Teachers' circle", "Legal research",
}

// keyProviders says how many of the learners with a key of their own have one
// of which provider.
var keyProviders = []struct {
	provider string
	part     float64
}{
	{"openai", 0.95}, {"anthropic", 0.75}, {"google", 0.6}, {"mistral", 0.2}, {"groq", 0.15}, {"openrouter", 0.1}, {"deepseek", 0.1}, {"xai", 0.1},
}
