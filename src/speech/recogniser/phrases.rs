//! What Whisper's models say when nobody speaks.
//!
//! They learnt it from films' subtitles, whose silent stretches say such things. Collected from reports on whisper.cpp,
//! faster-whisper and servers built on them. Callers say some of it too, so it counts only where other evidence is weak.

/// Without punctuation, in lower case.
const MADE_UP: &[&str] = &[
    "thank you",
    "thank you very much",
    "thank you so much",
    "thank you for watching",
    "thanks for watching",
    "thank you for your attention",
    "thanks",
    "please subscribe",
    "please subscribe to my channel",
    "like and subscribe",
    "see you next time",
    "see you in the next video",
    "bye",
    "bye bye",
    "you",
    "so",
    "subtitles by the amara org community",
    "music",
    "applause",
    "silence",
    "blank audio",
    "untertitel der amara org community",
    "untertitel im auftrag des zdf",
    "untertitel im auftrag des zdf für funk",
    "untertitelung des zdf",
    "untertitelung aufgrund der amara org community",
    "vielen dank",
    "vielen dank fürs zuschauen",
    "danke fürs zuschauen",
    "bis zum nächsten mal",
    "sous titres réalisés par la communauté d amara org",
    "sous titrage st 501",
    "sous titrage société radio canada",
    "merci",
    "merci d avoir regardé cette vidéo",
    "subtítulos realizados por la comunidad de amara org",
    "subtítulos por la comunidad de amara org",
    "gracias",
    "gracias por ver el video",
    "suscríbete",
    "sottotitoli creati dalla comunità amara org",
    "sottotitoli e revisione a cura di qtss",
    "grazie",
    "grazie per la visione",
    "legendas pela comunidade amara org",
    "obrigado",
    "obrigado por assistir",
    "ondertiteld door de amara org gemeenschap",
    "bedankt voor het kijken",
    "napisy stworzone przez społeczność amara org",
    "dziękuję za uwagę",
    "dziękuję",
    "titulky vytvořil johnyx",
    "undertexter från amara org gemenskapen",
    "субтитры сделал dimatorzok",
    "субтитры создавал dimatorzok",
    "редактор субтитров а синецкая корректор а егорова",
    "продолжение следует",
    "спасибо за просмотр",
    "altyazı m k",
    "izlediğiniz için teşekkür ederim",
    "abone olmayı unutmayın",
    "ご視聴ありがとうございました",
    "最後までご視聴いただきありがとうございます",
    "チャンネル登録お願いします",
    "字幕由amara org社区提供",
    "请不吝点赞订阅转发打赏支持明镜与点点栏目",
    "谢谢观看",
    "謝謝觀看",
    "시청해주셔서 감사합니다",
    "구독과 좋아요 부탁드립니다",
    "자막 제공 및 광고를 포함하고 있습니다",
    "اشتركوا في القناة",
    "ترجمة نانسي قنقر",
];

/// Whether `text` is one of them, whatever its case and punctuation, once or more often and nothing else.
pub(super) fn is_made_up(text: &str) -> bool {
    let plain = |c: char| if c.is_alphanumeric() { c } else { ' ' };
    let text: String = text.to_lowercase().chars().map(plain).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    MADE_UP.iter().any(|phrase| {
        let phrase: Vec<&str> = phrase.split_whitespace().collect();
        words.len().is_multiple_of(phrase.len())
            && !words.is_empty()
            && words.chunks(phrase.len()).all(|part| part == phrase)
    })
}
