package demo

var lessonTitles = []string{
	"What a prompt is", "Say who you are writing for", "Show an example", "Ask for a format", "Think step by step",
	"Give the model a role", "Summaries that keep the facts", "Compare models fairly", "What tokens cost",
	"Retrieval in plain words", "When models make things up", "A prompt library for your team",
}

// template is a prompt template and what a model makes of it.
type template struct {
	title, description, body, answer string
}

var templates = []template{
	{"Explain to a newcomer", "Any subject, for any listener", "Explain {{topic}} to {{audience}} in five sentences.",
		"Think of a kitchen where every recipe is written on a card. The cook does not know all the cards by heart, but finds the right ones quickly and then cooks. That is the whole idea: look up first, then answer."},
	{"Summarise for a meeting", "Three points and a decision", "Summarise the following for a meeting. Three points, then the decision that is needed.\n\n{{text}}",
		"1. Sign-ups grew by a fifth. 2. Half of the support load comes from one form. 3. The new price is accepted.\nDecision needed: may we rebuild the form this month?"},
	{"Rewrite politely", "Keeps the message, changes the tone", "Rewrite this message in a {{tone}} tone. Keep every fact.\n\n{{text}}",
		"Thank you for your patience. Your order left our house on Tuesday and should reach you by Friday; I will keep an eye on it."},
	{"Test questions", "For a lesson", "Write five multiple-choice questions about {{topic}} with one right answer each.",
		"1. What does a model read?\n a) Letters b) Tokens c) Sentences\n Right: b\n2. What grows with a longer prompt?\n a) Cost b) Temperature c) Rate limits\n Right: a"},
	{"Role play: customer", "To practise support calls", "You are {{role}}. Complain about {{product}} and answer only as that person.",
		"I have been waiting for three days and nobody has called back. What exactly am I paying for?"},
	{"Table from text", "Facts as columns", "Put the facts of this text into a table with the columns name, date, amount.\n\n{{text}}",
		"| name | date | amount |\n| --- | --- | --- |\n| Harbour Ltd | 3 March | 1,200 |\n| Northwind | 9 March | 860 |"},
	{"Find the weak argument", "Critical reading", "Which argument in this text is the weakest, and why?\n\n{{text}}",
		"The second one: it takes a single good month for a trend. Two more months, or the same month of last year, would make it sound."},
	{"Translate and explain", "With notes on idioms", "Translate into {{language}} and explain every idiom.\n\n{{text}}",
		"\"Da steppt der Bär\": literally, the bear dances there. It means that a place is lively."},
	{"Product description", "Short and honest", "Describe {{product}} for {{audience}} in sixty words. No superlatives.",
		"A lamp that follows the sun: cool light in the morning, warm in the evening. It screws into any common socket, needs no app, and remembers your last setting after a power cut."},
	{"Compare two options", "For and against", "Compare {{topic}} with doing nothing: cost, risk, time.",
		"Cost: about two weeks of one person. Risk: low, since the old way stays. Time: the gain shows after the first month. Doing nothing costs an hour a day."},
	{"Explain the error", "For beginners", "Explain this error to {{audience}} and say what to try first.\n\n{{text}}",
		"The program asked for a file that is not there. First look whether its name is written exactly as in the folder, capital letters included."},
	{"Interview questions", "For a position", "Write eight interview questions for {{role}}, from easy to hard.",
		"1. What did you build last? 2. Which part would you do differently? 3. How do you notice that a customer is confused?"},
	{"Newsletter opening", "Two sentences", "Write the opening of a newsletter about {{topic}} in a {{tone}} tone.",
		"Last month you asked us one question more than any other. Here is the answer, and it fits on a postcard."},
	{"Plan a lesson", "45 minutes", "Plan a 45-minute lesson on {{topic}} for {{audience}}.",
		"0-5 a puzzle; 5-15 the idea with one example; 15-35 pairs try their own; 35-45 three pairs show theirs."},
	{"Check the numbers", "Finds what does not add up", "Which figures in this text contradict each other?\n\n{{text}}",
		"The total says 48, but the rows add up to 46. The second row is the likely cause: its percentage fits 12, not 10."},
	{"Meeting invitation", "Clear and short", "Write an invitation to a meeting about {{topic}} with a goal and an agenda.",
		"Goal: choose one of two plans. Agenda: five minutes each, ten for questions, then a show of hands."},
	{"Reply to a review", "Friendly, no excuses", "Reply to this review of {{product}} in a {{tone}} tone.\n\n{{text}}",
		"You are right about the buttons, and we have changed them. If you send us your old one, the new one is on us."},
	{"Glossary", "Terms of a field", "Make a glossary of ten terms about {{topic}} for {{audience}}.",
		"Token: a piece of a word. Context window: how much the model can read at once. Temperature: how adventurous it is."},
	{"Five headlines", "For an article", "Write five headlines for an article about {{topic}}.",
		"The hour you get back. Less typing, more asking. What the machine does not know. Your first good prompt. Ask like an editor."},
	{"Simplify the contract", "Plain words", "Say in plain words what this clause means for {{audience}}.\n\n{{text}}",
		"You may leave every month if you say so two weeks before. If you forget, it goes on for one more month, not longer."},
	{"SQL from a question", "For reports", "Write a SQL query that answers: {{question}}",
		"select date_trunc('week', created_at) as week, count(*) from orders group by 1 order by 1;"},
	{"Feedback sandwich", "For a colleague", "Write feedback on {{topic}}: what works, what to change, what to try.",
		"The examples work, people laughed at the second. The middle is long; cut one step. Try to let the room guess the result first."},
	{"Persona", "Of a typical customer", "Describe a typical customer of {{product}}: day, worries, words they use.",
		"She opens the shop at seven and reads mail while the oven heats. Her worry is Saturday's staff. She says \"sorted\", never \"solution\"."},
	{"Read it back", "Checks understanding", "Repeat this request in your own words and list what is unclear.\n\n{{text}}",
		"You want last quarter's returns by region. Unclear: are exchanges returns, and which currency should the amounts have?"},
}

// question is a prompt without a template.
type question struct {
	prompt, answer string
}

var questions = []question{
	{"Explain RAG to a chef.", "You do not cook from memory alone: you open the right cookbook first, then cook with the page in view."},
	{"What is the difference between a token and a word?", "A word is what we read; a token is what the model reads. Short common words are one token, long rare ones are several."},
	{"Give me three names for a bakery that opens at night.", "Moonrise, The Late Loaf, Two O'Clock Bread."},
	{"Why does the same prompt give different answers?", "At each step the model draws from likely next tokens. With temperature 0 it nearly always takes the likeliest, and answers hardly differ."},
	{"Write a haiku about a slow printer.", "One line at a time\nit remembers what we asked\nand forgets the ink."},
	{"Is 1009 a prime number?", "Yes. No prime up to 31 divides it."},
	{"How do I say no to a meeting?", "\"I can't add much here. If a decision needs me, send me the question and I will answer by noon.\""},
	{"Turn this into bullet points: we shipped search, fixed login, and postponed billing.", "- Shipped: search\n- Fixed: login\n- Postponed: billing"},
	{"What should I check before I trust a summary?", "Names, numbers, negations. Those three are lost first."},
	{"Suggest a project to practise prompting.", "Collect ten questions that your team asks every week, and write one template that answers each of them well."},
}

// samples stand in for the placeholders of templates.
var samples = []struct {
	placeholder string
	values      []string
}{
	{"{{topic}}", []string{"retrieval-augmented generation", "photosynthesis", "compound interest", "unit tests", "the tides", "meeting notes"}},
	{"{{audience}}", []string{"a chef", "a ten-year-old", "new colleagues", "a busy manager", "retired engineers"}},
	{"{{tone}}", []string{"warm", "formal", "cheerful", "matter-of-fact"}},
	{"{{language}}", []string{"German", "Spanish", "Japanese", "Polish"}},
	{"{{product}}", []string{"a desk lamp", "an online course", "a train ticket app", "a coffee subscription"}},
	{"{{role}}", []string{"a customer whose parcel is late", "a support lead", "a data analyst", "a first-year teacher"}},
	{"{{question}}", []string{"How many orders came in per week this year?", "Which five products are returned most often?"}},
	{"{{text}}", []string{
		"Since March we have had 48 requests: 36 about sign-in, 10 about invoices. The form on the second page is where most people stop.",
		"The printer on the third floor has been out of paper since Monday, and nobody knows who orders it.",
		"Harbour Ltd paid 1,200 on 3 March. Northwind paid 860 on 9 March and asked for a receipt.",
	}},
}
