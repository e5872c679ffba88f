//! Plays a conversation on both sides, step by step, and says what came of it.

use crate::compare::{Difference, Verdict, compare};
use crate::sent::Group;
use crate::side::{Lost, Side};
use crate::world::World;
use mothership_tests::frame::show;

/// Plays it in a world with its first rows; stops at the first group whose answers are not the same.
pub fn play(world: &mut World, groups: &[Group]) -> Verdict {
    world.reset();
    let [mut plain, mut router] = world.clients();
    let verdict = talk(&mut plain, &mut router, groups);
    plain.leave();
    router.leave();
    let wrong = match &verdict {
        Verdict::Equal => world.left_wrong(true),
        Verdict::Refused(_) => world.left_wrong(false),
        Verdict::Wrong(_) => None,
    };
    match wrong {
        Some(text) => Verdict::Wrong(Difference {
            kind: text.split([' ', ':']).take(2).collect::<Vec<_>>().join(" "),
            text,
        }),
        None => verdict,
    }
}

fn talk(plain: &mut Side, router: &mut Side, groups: &[Group]) -> Verdict {
    for (at, group) in groups.iter().enumerate() {
        let Ok(answers) = plain.play(group) else {
            return Verdict::Refused("(known) PostgreSQL itself ends the connection".to_owned());
        };
        let routed = match router.play(group) {
            Ok(routed) => routed,
            Err(lost) => return lost_answer(at, &lost),
        };
        match compare(group, &answers, &routed) {
            Verdict::Equal => {}
            Verdict::Wrong(found) => {
                return Verdict::Wrong(Difference {
                    text: format!("in group {at}, {}", found.text),
                    ..found
                });
            }
            refused => return refused,
        }
        // In a transaction PostgreSQL tells nothing before its end, and need not.
        if plain.status == 'I' && plain.told != router.told {
            let differs =
                |(name, value): &(&String, &String)| router.told.get(*name) != Some(*value);
            let which = plain.told.iter().find(differs);
            let text = match which {
                Some((name, value)) => {
                    let said = router.told.get(name);
                    format!("in group {at}: {name} is {value:?}, and the router says {said:?}")
                }
                None => format!("in group {at}: the router says more: {:?}", router.told),
            };
            return Verdict::Wrong(Difference {
                kind: "told".to_owned(),
                text,
            });
        }
    }
    Verdict::Equal
}

fn lost_answer(at: usize, lost: &Lost) -> Verdict {
    let said = lost.answers.concat();
    Verdict::Wrong(Difference {
        kind: format!("{:?}", lost.silence),
        text: format!("in group {at}, {:?} behind\n{}", lost.silence, show(&said)),
    })
}
